import type { MountInfo } from "./mountinfo.ts";

/** Options of an overlay that name directories, several with ":" between them. `+` tells one layer each (Linux 6.5). */
const overlayDirectories = /^(?:lowerdir\+?|datadir\+|upperdir|workdir)=(.*)$/s;

/**
 * Which of the directories in `directory` some mounts show, write to or are on, by their names, with the places of these
 * mounts. To delete one would break whoever uses the mount, or what is mounted there.
 *
 * Known are the mounts of one mount namespace. Snapshotter and clients share it; one that a client has to itself is
 * not seen. Of an overlay with mapped ids only the upper directory is known, and of one that is mapped as a whole none, since
 * the kernel tells of mounts beneath it that are gone.
 *
 * @param mounts as `readMountsAndServed` tells them, to know also what fuse-overlayfs serves.
 */
export function directoriesInUse(mounts: readonly MountInfo[], directory: string): Map<string, string[]> {
  const inUse = new Map<string, string[]>();
  const below = placeOf(mounts, directory);
  for (const { type, mountPoint, device, root, options } of mounts) {
    const paths = type === "overlay" ? options.flatMap(overlaidBy) : [];
    const names = [mountPoint, ...paths].map((path) => nameIn(directory, path));
    if (below !== undefined && device === below.device) {
      names.push(nameIn(below.path, root));
    }
    // Where lower directories are many, clients name them as seen from a directory above: ours, if they look like it.
    names.push(...paths.map((path) => /^(\d+)\/fs$/.exec(path)?.[1]));
    for (const name of new Set(names.filter((each) => each !== undefined))) {
      inUse.set(name, [...(inUse.get(name) ?? []), mountPoint]);
    }
  }
  return inUse;
}

function overlaidBy(option: string): string[] {
  return overlayDirectories.exec(option)?.[1]?.split(":") ?? [];
}

/** Where `directory` is on the file system that it is part of, and not in the tree of mounts. */
function placeOf(
  mounts: readonly MountInfo[],
  directory: string,
): { readonly device: string; readonly path: string } | undefined {
  const holders = mounts.filter(
    ({ mountPoint }) =>
      mountPoint === "/" || directory === mountPoint || directory.startsWith(`${mountPoint}/`),
  );
  // Of those that are mounted over each other the last one is seen.
  const holder = holders.reduce<MountInfo | undefined>(
    (nearest, each) =>
      nearest === undefined || each.mountPoint.length >= nearest.mountPoint.length ? each : nearest,
    undefined,
  );
  if (holder === undefined) {
    return undefined;
  }
  const rest = holder.mountPoint === "/" ? directory : directory.slice(holder.mountPoint.length);
  return { device: holder.device, path: `${holder.root === "/" ? "" : holder.root}${rest}` };
}

/** The name of the entry of `directory` that `path` is, or is in. */
function nameIn(directory: string, path: string): string | undefined {
  return path.startsWith(`${directory}/`) ? path.slice(directory.length + 1).split("/", 1)[0] : undefined;
}
