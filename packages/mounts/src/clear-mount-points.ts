import { readdir, rmdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { mappedPrefix } from "./mapped.ts";
import { unmountBeneath } from "./mountinfo.ts";

/**
 * Puts in order what a process that was killed has left in `directory`, in which nothing is but mount points, such as
 * those that `mountTemporarily` makes: unmounts all, and removes the directories.
 *
 * None is emptied by force: whatever a mount that would not go away shows is not ours to delete.
 */
export async function clearMountPoints(directory: string): Promise<void> {
  await unmountBeneath(directory);
  for (const name of await readdir(directory)) {
    await removeMountPoint(join(directory, name));
  }
}

/** Removes the directory `path` on which nothing is mounted, or on whose directories nothing is, if an overlay with mapped ids was. */
export async function removeMountPoint(path: string): Promise<void> {
  if (basename(path).startsWith(mappedPrefix)) {
    for (const name of await readdir(path)) {
      await rmdir(join(path, name));
    }
  }
  await rmdir(path);
}
