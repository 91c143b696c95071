import { glob, rmdir } from "node:fs/promises";

/**
 * Removes the cgroup `name` and what a worker has made in it, in each hierarchy of version 1, or the one of version 2: a
 * runtime leaves what is above the cgroups that it has removed.
 */
export async function removeCgroups(name: string): Promise<void> {
  for (const path of [`${name}/buildkit`, name]) {
    for await (const directory of glob(`/sys/fs/cgroup/{*/,}${path}`)) {
      await rmdir(directory);
    }
  }
}
