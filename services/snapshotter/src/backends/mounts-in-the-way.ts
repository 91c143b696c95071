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
 * Which directories in `directory` have to stay for the sake of a mount that is not ours, by their names, with the place
 * of that mount: see {@link directoriesInUse}.
 */
export function mountsInTheWay(
  mounts: readonly MountInfo[],
  directory: string,
  ownMounts: Pick<OwnMounts, "holds">,
): Map<string, string> {
  const { ours = [], others = [] } = Object.groupBy(mounts, ({ mountPoint }) =>
    ownMounts.holds(mountPoint) ? "ours" : "others",
  );
  const inTheWay = new Map(directoriesInUse(others, directory));
  for (const { device, mountPoint } of ours) {
    // A bind mount of what we have mounted tells nothing of the directory, but has the same file system.
    const copy = others.find((each) => each.device === device);
    if (copy !== undefined) {
      inTheWay.set(basename(dirname(mountPoint)), copy.mountPoint);
    }
  }
  return inTheWay;
}
