import { closeSync, mkdirSync, mkdtempSync, rmdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import {
  MNT_DETACH,
  MOUNT_ATTR_RDONLY,
  MS_NODEV,
  MS_NOSUID,
  MS_PRIVATE,
  mapIDs,
  mount,
  moveMount,
  openTreeClone,
  UMOUNT_NOFOLLOW,
  umount2,
} from "@oci-worker/libc/mount";

/** Shows the directory or file `source` at `at`, with the ids that the user namespace `userNamespace` maps its to. */
export function attachMapped(
  source: string,
  at: string,
  userNamespace: number,
  recursive: boolean,
  attributes = 0n,
): void {
  const clone = openTreeClone(source, recursive);
  try {
    try {
      mapIDs(clone, userNamespace, recursive, attributes);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`its file system or this kernel cannot map the ids of ${source}: ${why}`, { cause });
    }
    moveMount(clone, at);
  } finally {
    closeSync(clone);
  }
}

/** Options of an overlay whose directories are shown with other ids, for as long as it takes to mount it. */
export interface MappedDirectories extends Disposable {
  readonly data: readonly string[];
}

/** How the directory is called, up to a random part, that mapped directories of an overlay are mounted in. */
const mappedPrefix = "mapped-";

/**
 * Replaces the lower directories in `data`, the options of an overlay that is to be mounted at `at`, by read-only mounts
 * of them with mapped ids.
 *
 * They are beside `at` for so long: whoever is killed meanwhile finds them where its own mounts are, beneath one directory that
 * is empty without them.
 *
 * The overlay makes private copies of these mounts for itself, so they are taken away again as soon as it is there. Each
 * directory has a mount of its own, because a layer may be a file system of its own.
 *
 * @param withUpper also the upper directory and the one for work, which must share a mount (overlayfs.rst): that of the
 *   directory that both are in.
 */
export function mappedDirectories(
  data: readonly string[],
  at: string,
  userNamespace: number,
  withUpper: boolean,
): MappedDirectories {
  using undo = new DisposableStack();
  const directory = mkdtempSync(join(dirname(at), mappedPrefix));
  undo.defer(() => rmdirSync(directory));
  // In memory, and taken away as a whole: each unmount waits for all processors. What is beneath is for nobody else to see.
  mount("tmpfs", directory, "tmpfs", MS_NODEV | MS_NOSUID, "mode=0700");
  undo.defer(() => umount2(directory, MNT_DETACH | UMOUNT_NOFOLLOW));
  mount("", directory, "", MS_PRIVATE, "");
  let count = 0;
  const mapped = (source: string, attributes: bigint): string => {
    const path = `${directory}/${count}`;
    count += 1;
    mkdirSync(path);
    attachMapped(source, path, userNamespace, false, attributes);
    return path;
  };
  const upper = withUpper ? upperParent(data) : undefined;
  const mappedUpper = upper && mapped(upper, 0n);
  const options = data.map((option) => {
    const [, name, value = ""] = /^(lowerdir|upperdir|workdir)=(.*)$/s.exec(option) ?? [];
    if (name === "lowerdir") {
      const lowers = value.split(":").map((lower) => mapped(lower, MOUNT_ATTR_RDONLY));
      return `lowerdir=${lowers.join(":")}`;
    }
    return name === undefined || mappedUpper === undefined
      ? option
      : `${name}=${join(mappedUpper, basename(value))}`;
  });
  const owned = undo.move();
  return { data: options, [Symbol.dispose]: () => owned.dispose() };
}

/** The directory that the upper directory and the one for work are in; undefined if there are none. */
function upperParent(data: readonly string[]): string | undefined {
  const [upper, work] = ["upperdir=", "workdir="].map((start) =>
    data.find((option) => option.startsWith(start))?.slice(start.length),
  );
  if (upper === undefined || work === undefined) {
    return undefined;
  }
  if (dirname(upper) !== dirname(work)) {
    throw new Error(`cannot map the ids of ${upper} and ${work}: want them in one directory`);
  }
  return dirname(upper);
}
