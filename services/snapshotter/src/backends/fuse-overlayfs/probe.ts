import { join } from "node:path";
import type { Obstacle } from "../backend.ts";
import { bindIn, probeIDMap } from "../id-map-probe.ts";
import { obstacleOfPath, tryOverlay } from "../overlayfs/trial.ts";
import { FuseOverlayfs } from "./fuse-overlayfs.ts";
import { fuseOverlayType } from "./mounts.ts";

/** Finds out whether fuse-overlayfs can run on `root`, by mounting a small one there with the program and using it. */
export async function probeFuseOverlayfs(root: string): Promise<FuseOverlayfs | Obstacle> {
  const obstacle =
    obstacleOfPath(root) ?? (await tryOverlay(join(root, "probe"), { type: fuseOverlayType, options: [] }));
  if (obstacle !== undefined) {
    return { obstacle };
  }
  // The program can always, but a snapshot on nothing is a bind mount, which only the kernel can map.
  return new FuseOverlayfs(await probeIDMap(root, bindIn));
}
