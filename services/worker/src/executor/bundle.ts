import { readdir, rmdir, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RuntimeSpec } from "./oci-spec.ts";

/** In a bundle: what the processes of a step are known by, if they have no pid name space. */
export const processesName = "processes";

/** In a bundle: what is in memory alone, and there the runtime's state of a step whose environment is secret. */
export const memoryName = "memory";
export const secretStatePath = join(memoryName, "state");

/** Writes config.json to `directory`, and a link to it where the runtime looks for it if that is elsewhere. */
export async function writeConfig(spec: RuntimeSpec, bundle: string, directory: string): Promise<void> {
  const path = join(directory, "config.json");
  await writeFile(path, JSON.stringify(spec), { mode: 0o600 });
  if (directory !== bundle) {
    await symlink(path, join(bundle, "config.json"));
  }
}

/**
 * Removes a bundle: files and empty directories, nothing deeper. What a mount that would not go away shows is not ours
 * to delete; it then fails.
 */
export async function removeBundle(bundle: string): Promise<void> {
  for (const entry of await readdir(bundle, { withFileTypes: true })) {
    const path = join(bundle, entry.name);
    await (entry.isDirectory() ? rmdir(path) : unlink(path));
  }
  await rmdir(bundle);
}
