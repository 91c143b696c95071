import { realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/**
 * How the list of mounts calls what is mounted at `target`, which is itself never looked at: we may be who serves it. Where
 * there is no such directory nothing is, by whatever name.
 */
export async function realTarget(target: string): Promise<string> {
  const directory = await realpath(dirname(target)).catch(() => dirname(target));
  return join(directory, basename(target));
}
