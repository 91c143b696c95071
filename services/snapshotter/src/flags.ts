import { type Flags, parseFlags as parse } from "@oci-worker/daemon/flags";
import { defaults } from "./config.ts";

const defaultConfigFile = "/etc/oci-worker/snapshotter.toml";

export const usage = `Usage: oci-snapshotter [--root DIR] [--address SOCKET] [options]
       oci-snapshotter --check | --repair [--json] [--root DIR]

Serves containerd's Snapshots API on a unix socket, or checks what one that has ended has left.

  --root DIR                 where metadata and snapshots are kept; one process and one client a root
  --address SOCKET           socket to serve on, with or without unix://
  --snapshotter NAME         auto, native, overlayfs, fuse-overlayfs or stargz
  --client NAME              whom this root is for, by its name for us; default: who changes something first
  --allow-several-clients    let others change snapshots as well, at the risk of each one deleting the others'
  --config FILE              settings; default ${defaultConfigFile}, if it is there
  --resolver-address SOCKET  the resolver, for stargz
  --sync-on-commit           a commit waits until the snapshot's files are on disk
  --log-level LEVEL          trace, debug, info, warn, error, fatal or silent
  --check                    tell what is wrong with the root; exit code 0 if nothing, 1 if something is
  --repair                   mend that; content that may be wanted is moved to recovered in the root
  --json                     tell it as JSON
  --help                     print this
  --version                  print the version

Variables of the environment stand in for the config file's keys: OCI_WORKER_SNAPSHOTTER_SYNC_ON_COMMIT for syncOnCommit.
`;

/**
 * What the command line and the environment say; their settings take precedence over the config file's.
 *
 * @throws {InvalidArgumentError} for a flag or a variable that does not exist, and for a flag without its value.
 */
export function parseFlags(args: readonly string[], environment: NodeJS.ProcessEnv): Flags {
  return parse(
    {
      settingsByFlag: {
        root: "root",
        address: "address",
        snapshotter: "snapshotter",
        client: "client",
        "resolver-address": "resolverAddress",
        "log-level": "logLevel",
      },
      switchesByFlag: { "allow-several-clients": "allowSeveralClients", "sync-on-commit": "syncOnCommit" },
      questions: ["check", "repair", "json"],
      environmentKeys: Object.keys(defaults),
      environmentPrefix: "OCI_WORKER_SNAPSHOTTER_",
      defaultConfigFile,
    },
    args,
    environment,
  );
}
