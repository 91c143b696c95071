import { realpath } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { directoriesInUse } from "@oci-worker/mounts/directories-in-use";
import { layersOf } from "@oci-worker/mounts/read-only";
import { readMountsAndServed } from "@oci-worker/mounts/served-overlays";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";

/**
 * Where an active snapshot is mounted, such as the root of a container that runs, as far as this process can see; undefined
 * if it is nowhere.
 */
export async function mountPointOf(
  snapshotter: Snapshotter,
  { name, kind }: Info,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (kind !== "active") {
    return undefined;
  }
  const [first] = await snapshotter.mounts(name, signal);
  const [writable] = first === undefined ? [] : (layersOf(first) ?? []);
  if (writable === undefined) {
    return undefined;
  }
  const mounts = await readMountsAndServed();
  // Mounts are told to be where they really are, and layers of overlays as clients were told.
  const paths = [writable, await realpath(writable).catch(() => writable)];
  return paths
    .map((path) => directoriesInUse(mounts, dirname(path)).get(basename(path))?.[0])
    .find((mountPoint) => mountPoint !== undefined);
}
