import { mkdir } from "node:fs/promises";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { ErofsMounter } from "./erofs-mounter.ts";
import { adoptHeldMounts, forgetHeldMount, type HeldMount, makeHeldMount } from "./held-mount.ts";
import { type LayerMounter, type MountMode, mountModes, type PassedOver } from "./layer-mounter.ts";
import { probeErofs } from "./probe.ts";
import { openProbeScene } from "./probe-scene.ts";

export interface LayerMounterOptions {
  /** For what belongs to lazy layers, and to nobody else. */
  readonly directory: string;
  /** `auto`: the best that this machine can do. */
  readonly mode: MountMode | "auto";
}

/**
 * Finds out how layers can be shown on this machine, by showing one, and takes over what an earlier process has mounted.
 *
 * @throws {FailedPreconditionError} if they cannot, or not as `mode` says, with the obstacles.
 */
export async function openLayerMounter(
  { directory, mode }: LayerMounterOptions,
  log: Logger,
): Promise<LayerMounter> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const adopted = await adoptHeldMounts(directory);
  const passedOver: PassedOver[] = [];
  for (const candidate of mode === "auto" ? mountModes : [mode]) {
    const opened = await openMode(candidate, directory, adopted, passedOver);
    if (!("obstacle" in opened)) {
      log.info({ mode: candidate, directory, adopted: opened.adopted }, "way to show layers chosen");
      return opened;
    }
    const { obstacle } = opened;
    log.warn({ mode: candidate, directory, obstacle }, "way to show layers passed over");
    passedOver.push({ mode: candidate, obstacle });
  }
  const reasons = passedOver.map((refusal) => `${refusal.mode}: ${refusal.obstacle}`).join("; ");
  throw new FailedPreconditionError(`Cannot show layers in ${directory}: ${reasons}`);
}

async function openMode(
  mode: MountMode,
  directory: string,
  adopted: readonly HeldMount[],
  passedOver: readonly PassedOver[],
): Promise<LayerMounter | { readonly obstacle: string }> {
  try {
    await using scene = await openProbeScene(`${directory}/probe`);
    const way = await probeErofs(scene, mode);
    if ("obstacle" in way) {
      return way;
    }
    const blobs = await takeBlobs(directory, adopted);
    return new ErofsMounter(directory, way, blobs, passedOver);
  } catch (error) {
    return { obstacle: error instanceof Error ? error.message : String(error) };
  }
}

/** The mount with the data devices of layers; others, which belong to another mode, are of no use any more. */
async function takeBlobs(directory: string, adopted: readonly HeldMount[]): Promise<HeldMount> {
  const blobs = adopted.find(({ layer }) => layer === undefined);
  for (const mount of adopted) {
    if (mount !== blobs) {
      await forgetHeldMount(directory, mount);
    }
  }
  return blobs ?? (await makeHeldMount(directory, `${directory}/blobs`, undefined));
}
