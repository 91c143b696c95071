import { mkdir, realpath } from "node:fs/promises";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { ErofsMounter } from "./erofs-mounter.ts";
import { FuseMounter } from "./fuse-mounter.ts";
import { adoptHeldMounts, dropHeldMount, type HeldMount, makeHeldMount } from "./held-mount.ts";
import type { HeldKind } from "./held-record.ts";
import { type LayerMounter, type MountMode, mountModes, type PassedOver } from "./layer-mounter.ts";
import type { ErofsWay } from "./mount-erofs.ts";
import { probeErofs, probeFuse } from "./probe.ts";
import { openProbeScene } from "./probe-scene.ts";
import { TreeRecords } from "./tree-records.ts";

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
export async function openLayerMounter(options: LayerMounterOptions, log: Logger): Promise<LayerMounter> {
  const { mode } = options;
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  // Mounts are told to be where they really are.
  const directory = await realpath(options.directory);
  const adopted = await adoptHeldMounts(directory);
  const passedOver: PassedOver[] = mode === "auto" ? passedOverFor(adopted, directory) : [];
  const isOpen = (each: MountMode) => !passedOver.some((other) => other.mode === each);
  for (const candidate of mode === "auto" ? mountModes.filter(isOpen) : [mode]) {
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

/** No better way is worth cutting off those who read what an earlier process has mounted. */
function passedOverFor(adopted: readonly HeldMount[], directory: string): PassedOver[] {
  const isInUse =
    adopted.some(({ kind }) => kind === "trees") && new TreeRecords(shownIn(directory)).targets.length > 0;
  const obstacle = "layers are mounted by fuse since an earlier start";
  return isInUse
    ? [
        { mode: "erofs", obstacle },
        { mode: "erofs-loop", obstacle },
      ]
    : [];
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
  return new ErofsMounter(way, await heldMount(directory, "blobs", adopted), passedOver);
}

async function openFuse(
  directory: string,
  adopted: readonly HeldMount[],
  passedOver: readonly PassedOver[],
): Promise<LayerMounter> {
  const records = new TreeRecords(shownIn(directory));
  return await FuseMounter.open(await heldMount(directory, "trees", adopted), records, passedOver);
}

/** Where in a directory of lazy layers the records of its trees are. */
function shownIn(directory: string): string {
  return `${directory}/shown`;
}

/** The mount of that kind. What another way to show layers has left is of no use to this one. */
async function heldMount(
  directory: string,
  kind: HeldKind,
  adopted: readonly HeldMount[],
): Promise<HeldMount> {
  const [mount, ...surplus] = adopted.filter((each) => each.kind === kind);
  for (const each of [...surplus, ...adopted.filter((other) => other.kind !== kind)]) {
    await dropHeldMount(directory, each);
  }
  return mount ?? (await makeHeldMount(directory, `${directory}/${kind}`, kind));
}
