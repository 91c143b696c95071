import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
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
    await rmdir(join(directory, name));
  }
}
