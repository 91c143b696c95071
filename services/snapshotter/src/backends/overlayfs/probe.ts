import { join } from "node:path";
import type { Mount } from "@oci-worker/mounts/mount";
import type { Obstacle } from "../backend.ts";
import { probeIDMap } from "../id-map-probe.ts";
import type { ProbeDirectory } from "../probe-directory.ts";
import { overlayHost, overlayOptionSets } from "./options.ts";
import { Overlayfs } from "./overlayfs.ts";
import { obstacleOfPath, tryOverlay } from "./trial.ts";

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
  const ofPath = obstacleOfPath(root);
  if (ofPath !== undefined) {
    return { obstacle: ofPath };
  }
  const obstacles: string[] = [];
  for (const options of overlayOptionSets(overlayHost(), settings.mountOptions)) {
    // Without `volatile` (Linux 5.10) the unmount would wait until all that anybody has written is on disk.
    for (const attempt of [[...options, "volatile"], options]) {
      const obstacle = await tryOverlay(join(root, "probe"), { type: "overlay", options: attempt });
      if (obstacle === undefined) {
        const idMapObstacle = await probeIDMap(root, (directory) => overlayIn(directory, attempt));
        return new Overlayfs({ options, idMapObstacle, upperdirLabel: settings.upperdirLabel });
      }
      obstacles.push(obstacle);
    }
  }
  return { obstacle: [...new Set(obstacles)].join("; ") };
}

function overlayIn({ lower, upper, work }: ProbeDirectory, options: readonly string[]): Mount {
  const paths = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower}`];
  return { type: "overlay", source: "overlay", options: [...options, ...paths] };
}
