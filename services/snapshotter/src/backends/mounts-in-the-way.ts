import { realpath } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { directoriesInUse } from "@oci-worker/mounts/directories-in-use";
import type { MountInfo } from "@oci-worker/mounts/mountinfo";

/** Mounts that we have made ourselves as the content of snapshots. They go with the directory. */
export interface OwnMounts {
  /** Whether what is mounted at `mountPoint` is one of them. */
  holds(mountPoint: string): boolean;
  /** Undoes what is mounted in `directory`, that of a snapshot, and forgets it. */
  release(directory: string): Promise<void>;
}

/**
 * Which directories in `directory` have to stay for the sake of mounts that are not ours, by their names, with the places
 * of these mounts: see {@link directoriesInUse}.
 */
export async function mountsInTheWay(
  mounts: readonly MountInfo[],
  directory: string,
  ownMounts: Pick<OwnMounts, "holds">,
): Promise<Map<string, readonly string[]>> {
  const { ours = [], others = [] } = Object.groupBy(mounts, ({ mountPoint }) =>
    ownMounts.holds(mountPoint) ? "ours" : "others",
  );
  // Mounts are told to be where they really are, and layers of overlays as we have told clients.
  const bothWays = new Set([directory, await realpath(directory)]);
  const inTheWay = new Map<string, readonly string[]>();
  const add = (name: string, mountPoints: readonly string[]) =>
    inTheWay.set(name, [...new Set([...(inTheWay.get(name) ?? []), ...mountPoints])]);
  for (const path of bothWays) {
    for (const [name, mountPoints] of directoriesInUse(others, path)) {
      add(name, mountPoints);
    }
  }
  for (const { device, mountPoint, root } of ours) {
    // A bind mount of what we have mounted tells nothing of the directory, but shows the same part of the same file system.
    const copies = others.filter((each) => each.device === device && isIn(root, each.root));
    if (copies.length > 0) {
      add(
        basename(dirname(mountPoint)),
        copies.map((copy) => copy.mountPoint),
      );
    }
  }
  return inTheWay;
}

/** Whether `path` is the directory `root` of a file system or something in it. */
function isIn(root: string, path: string): boolean {
  return root === "/" || path === root || path.startsWith(`${root}/`);
}
