import { isAbsolute } from "node:path";
import { shown, WrongValueError } from "../kind.ts";
import { oneOf, socketPath, textual } from "../kinds.ts";
import { setting } from "../setting.ts";
import { stargzTable } from "../stargz-table.ts";

const snapshotterNames = ["auto", "native", "overlayfs", "fuse-overlayfs", "stargz"] as const;

/** The hint is upstream's, whose users forget that this path has no scheme. */
const proxyPath = textual("SOCKET", (value) => {
  if (!isAbsolute(value)) {
    throw new WrongValueError(
      `snapshotter doesn't exist on ${shown(value)} (Do not include 'unix://' prefix)`,
    );
  }
  return socketPath(value);
});

/** Where layers and results of steps are kept. */
export const snapshotSettings = {
  snapshotter: setting(
    oneOf(snapshotterNames, {
      unknown: (value) => `unknown snapshotter name: ${value}`,
      alias: { "": "auto" },
      operand: "NAME",
    }),
    {
      flag: "oci-worker-snapshotter",
      key: "worker.oci.snapshotter",
      fallback: "auto",
      help: `how snapshots are kept: ${snapshotterNames.join(", ")}`,
    },
  ),
  proxySnapshotterPath: setting(proxyPath, {
    flag: "oci-worker-proxy-snapshotter-path",
    key: "worker.oci.proxySnapshotterPath",
    fallback: undefined,
    unset: "a snapshotter of its own",
    help: "socket of a snapshotter that runs already, without unix://",
  }),
  lazySettings: setting(stargzTable, {
    key: "worker.oci.stargzSnapshotter",
    fallback: {},
    help: "table of settings for lazy layers: those of stargz-snapshotter that its own snapshotter knows, and that one's own",
  }),
};
