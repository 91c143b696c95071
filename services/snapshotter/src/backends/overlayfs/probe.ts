import { mkdir, readdir, readFile, rm, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import type { Obstacle } from "../backend.ts";
import { overlayHost, overlayOptionSets } from "./options.ts";
import { Overlayfs } from "./overlayfs.ts";

/**
 * Finds out whether overlayfs can run on `root`, by mounting a small one there and using it.
 *
 * A kernel that has overlayfs says little: `root` may itself be on an overlay, on a file system without the entry
 * types or attributes that overlayfs keeps its records in, or on a network.
 */
export async function probeOverlayfs(root: string): Promise<Overlayfs | Obstacle> {
  const separator = /[,:\\\s]/.exec(root);
  if (separator !== null) {
    return {
      obstacle: `the path ${JSON.stringify(root)} has the character ${JSON.stringify(separator[0])}, which separates options of overlay mounts`,
    };
  }
  const obstacles: string[] = [];
  for (const options of overlayOptionSets(overlayHost())) {
    // Without `volatile` (Linux 5.10) the unmount would wait until all that anybody has written is on disk.
    for (const attempt of [[...options, "volatile"], options]) {
      const obstacle = await tryOverlay(join(root, "probe"), attempt);
      if (obstacle === undefined) {
        return new Overlayfs(options);
      }
      obstacles.push(obstacle);
    }
  }
  return { obstacle: [...new Set(obstacles)].join("; ") };
}

/** Mounts an overlay in the new directory `directory` and deletes a file through it. Returns what went wrong. */
async function tryOverlay(directory: string, options: readonly string[]): Promise<string | undefined> {
  await using undo = new AsyncDisposableStack();
  await clear(directory);
  undo.defer(() => clear(directory));
  const [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map((name) =>
    join(directory, name),
  );
  if (lower === undefined || upper === undefined || work === undefined || merged === undefined) {
    throw new Error("four names make four paths");
  }
  await mkdir(directory, { mode: 0o700 });
  for (const each of [lower, upper, work, merged]) {
    await mkdir(each);
  }
  await writeFile(join(lower, "deleted"), "");
  await writeFile(join(lower, "kept"), "lower");
  const paths = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower}`];
  try {
    await mountAll([{ type: "overlay", source: "overlay", options: [...options, ...paths] }], merged);
    undo.defer(() => unmount(merged));
    await unlink(join(merged, "deleted"));
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

/** Removes what a probe has left, also one that was killed. */
async function clear(directory: string): Promise<void> {
  await unmountBeneath(directory);
  await rm(directory, { recursive: true, force: true });
}
