import { mkdir } from "node:fs/promises";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { ErofsMounter } from "./erofs-mounter.ts";
import { FuseMounter } from "./fuse-mounter.ts";
import { adoptHeldMounts, dropHeldMount, type HeldMount, makeHeldMount } from "./held-mount.ts";
import { type LayerMounter, type MountMode, mountModes, type PassedOver } from "./layer-mounter.ts";
import type { ErofsWay } from "./mount-erofs.ts";
import { probeErofs, probeFuse } from "./probe.ts";
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
    if (mode === "fuse") {
      const obstacle = await probeFuse(scene);
      return obstacle === undefined ? await openFuse(directory, adopted, passedOver) : { obstacle };
    }
    const way = await probeErofs(scene, mode);
    return "obstacle" in way ? way : await openErofs(directory, way, adopted, passedOver);
  } catch (error) {
    return { obstacle: error instanceof Error ? error.message : String(error) };
  }
}

async function openErofs(
  directory: string,
  way: ErofsWay,
  adopted: readonly HeldMount[],
  passedOver: readonly PassedOver[],
): Promise<LayerMounter> {
  const [blobs, layers] = parted(adopted);
  await dropAll(directory, [...blobs.slice(1), ...layers]);
  const mount = blobs[0] ?? (await makeHeldMount(directory, `${directory}/blobs`, undefined));
  return new ErofsMounter(way, mount, passedOver);
}

async function openFuse(
  directory: string,
  adopted: readonly HeldMount[],
  passedOver: readonly PassedOver[],
): Promise<LayerMounter> {
  const [blobs, layers] = parted(adopted);
  await dropAll(directory, blobs);
  return new FuseMounter(directory, layers, passedOver);
}

/** What one way to show layers has left is of no use to another. */
async function dropAll(directory: string, mounts: readonly HeldMount[]): Promise<void> {
  for (const mount of mounts) {
    await dropHeldMount(directory, mount);
  }
}

/** Mounts with data devices of layers, and mounts of layers. */
function parted(mounts: readonly HeldMount[]): [blobs: HeldMount[], layers: HeldMount[]] {
  return [
    mounts.filter(({ layer }) => layer === undefined),
    mounts.filter(({ layer }) => layer !== undefined),
  ];
}
