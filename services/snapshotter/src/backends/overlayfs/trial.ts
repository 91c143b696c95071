import { mkdir, readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Mount, mountAll } from "@oci-worker/mounts/mount";
import { makeProbeDirectory } from "../probe-directory.ts";

/** What is wrong with snapshots below `root` as options of overlay mounts, if something is. */
export function obstacleOfPath(root: string): string | undefined {
  const separator = /[,:\\\s]/.exec(root);
  return separator === null
    ? undefined
    : `the path ${JSON.stringify(root)} has the character ${JSON.stringify(separator[0])}, which separates options of overlay mounts`;
}

/**
 * Mounts an overlay of two lower directories and an upper one in the new directory `path`, and changes and deletes
 * files through it.
 *
 * @param overlay its type, and the options besides the directories.
 * @returns what went wrong, or undefined.
 */
export async function tryOverlay(
  path: string,
  { type, options }: Pick<Mount, "type" | "options">,
): Promise<string | undefined> {
  await using directory = await makeProbeDirectory(path);
  const { lower, upper, work, merged } = directory;
  const below = join(path, "below");
  await mkdir(below);
  await writeFile(join(below, "deleted"), "");
  await writeFile(join(below, "kept"), "below");
  await writeFile(join(lower, "deleted too"), "");
  await writeFile(join(lower, "kept"), "lower");
  const paths = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower}:${below}`];
  try {
    await mountAll([{ type, source: "overlay", options: [...options, ...paths] }], merged);
    await unlink(join(merged, "deleted"));
    await unlink(join(merged, "deleted too"));
    await writeFile(join(merged, "kept"), "upper");
    const left = await readdir(merged);
    // Without entry types (d_type) of the file system beneath, deleted files stay listed.
    if (left.join() !== "kept" || (await readFile(join(lower, "kept"), "utf8")) !== "lower") {
      return `an overlay on it shows ${JSON.stringify(left)} after a deletion, want ["kept"]`;
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
