import { readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Mount, mountAll } from "@oci-worker/mounts/mount";
import type { Obstacle } from "../backend.ts";
import { probeIDMap } from "../id-map-probe.ts";
import { makeProbeDirectory, type ProbeDirectory } from "../probe-directory.ts";
import { overlayHost, overlayOptionSets } from "./options.ts";
import { Overlayfs } from "./overlayfs.ts";

/** What an operator can set of the backend. */
export interface OverlayfsSettings {
  /** Options of every overlay mount besides those that we choose; checked by `objectionTo`. */
  readonly mountOptions: readonly string[];
  /** Whether snapshots are described with the path of their upper directory, as a label. */
  readonly upperdirLabel: boolean;
}

/**
 * Finds out whether overlayfs can run on `root`, by mounting a small one there and using it.
 *
 * A kernel that has overlayfs says little: `root` may itself be on an overlay, on a file system without the entry
 * types or attributes that overlayfs keeps its records in, or on a network.
 */
export async function probeOverlayfs(
  root: string,
  settings: OverlayfsSettings,
): Promise<Overlayfs | Obstacle> {
  const separator = /[,:\\\s]/.exec(root);
  if (separator !== null) {
    return {
      obstacle: `the path ${JSON.stringify(root)} has the character ${JSON.stringify(separator[0])}, which separates options of overlay mounts`,
    };
  }
  const obstacles: string[] = [];
  for (const options of overlayOptionSets(overlayHost(), settings.mountOptions)) {
    // Without `volatile` (Linux 5.10) the unmount would wait until all that anybody has written is on disk.
    for (const attempt of [[...options, "volatile"], options]) {
      const obstacle = await tryOverlay(join(root, "probe"), attempt);
      if (obstacle === undefined) {
        const idMapObstacle = await probeIDMap(root, (directory) => overlayIn(directory, attempt));
        return new Overlayfs({ options, idMapObstacle, upperdirLabel: settings.upperdirLabel });
      }
      obstacles.push(obstacle);
    }
  }
  return { obstacle: [...new Set(obstacles)].join("; ") };
}

/** Mounts an overlay in the new directory `path` and deletes a file through it. Returns what went wrong. */
async function tryOverlay(path: string, options: readonly string[]): Promise<string | undefined> {
  await using directory = await makeProbeDirectory(path);
  const { lower, merged } = directory;
  await writeFile(join(lower, "deleted"), "");
  await writeFile(join(lower, "kept"), "lower");
  try {
    await mountAll([overlayIn(directory, options)], merged);
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

function overlayIn({ lower, upper, work }: ProbeDirectory, options: readonly string[]): Mount {
  const paths = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower}`];
  return { type: "overlay", source: "overlay", options: [...options, ...paths] };
}
