import type { CommandGroup } from "../command.ts";
import { diff } from "./diff.ts";
import { info } from "./info.ts";
import { ls } from "./ls.ts";
import { mounts } from "./mounts.ts";
import { rm } from "./rm.ts";
import { targetFlags } from "./target.ts";
import { tree } from "./tree.ts";
import { usage } from "./usage.ts";

/** `ociw snapshots` */
export const snapshots: CommandGroup = {
  synopsis: "snapshots [flags] COMMAND [flags]",
  summary: "Looks at the snapshots of a snapshotter, ours or containerd's own, and removes them.",
  details: [
    "A KEY may be shortened to what is unique of its beginning or of its digest.",
    "For containerd: --snapshotter-address /run/containerd/containerd.sock --snapshotter overlayfs --namespace k8s.io",
  ],
  flags: targetFlags,
  commands: { ls, tree, info, usage, mounts, diff, rm },
};
