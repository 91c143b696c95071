import { closeSync, mkdirSync, mkdtempSync, rmdirSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  MNT_DETACH,
  MOUNT_ATTR_RDONLY,
  mapIDs,
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

/** Options of an overlay whose lower directories are shown with other ids, for as long as it takes to mount it. */
export interface MappedLowers extends Disposable {
  readonly data: readonly string[];
}

/** How the directory is called, up to a random part, that mapped lower directories are mounted in. */
export const mappedPrefix = "mapped-";

/**
 * Replaces the lower directories in `data`, the options of an overlay that is to be mounted at `at`, by read-only mounts
 * of them with mapped ids.
 *
 * They are beside `at` for so long: whoever is killed meanwhile finds them where its own mounts are, and
 * `clearMountPoints` puts all of that in order.
 *
 * The overlay makes private copies of these mounts for itself, so they are taken away again as soon as it is there. Each
 * directory has a mount of its own, because a layer may be a file system of its own.
 */
export function mappedLowers(data: readonly string[], at: string, userNamespace: number): MappedLowers {
  using undo = new DisposableStack();
  const directory = mkdtempSync(join(dirname(at), mappedPrefix));
  undo.defer(() => rmdirSync(directory));
  let count = 0;
  const mapped = (source: string): string => {
    const path = `${directory}/${count}`;
    count += 1;
    mkdirSync(path);
    undo.defer(() => rmdirSync(path));
    attachMapped(source, path, userNamespace, false, MOUNT_ATTR_RDONLY);
    undo.defer(() => umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW));
    return path;
  };
  const options = data.map((option) => {
    const [, lowers] = /^lowerdir=(.*)$/s.exec(option) ?? [];
    return lowers === undefined ? option : `lowerdir=${lowers.split(":").map(mapped).join(":")}`;
  });
  const owned = undo.move();
  return { data: options, [Symbol.dispose]: () => owned.dispose() };
}
