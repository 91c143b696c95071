import { attachLoop } from "@oci-worker/mounts/loop";
import { mountAll } from "@oci-worker/mounts/mount";
import { mountedAt, readMountInfo } from "@oci-worker/mounts/mountinfo";
import { raiseReadAhead, readAheadDevices } from "@oci-worker/mounts/read-ahead";
import { readAheadKiB } from "./held-mount.ts";
import { realTarget } from "./real-target.ts";

/** How EROFS is mounted on this machine. */
export interface ErofsWay {
  /** From the files themselves (Linux 6.12), or from loop devices that show them (5.16). */
  readonly mode: "erofs" | "erofs-loop";
  /** What the kernel takes beside the data device. */
  readonly options: readonly string[];
}

/** One after the other, because what is new among the devices is to be that of one mount. */
let lastMount: Promise<void> = Promise.resolve();

/** Mounts the image `metaPath` with the data device `dataPath`, which is known to the kernel if it is served. */
export async function mountErofs(
  way: ErofsWay,
  metaPath: string,
  dataPath: string | undefined,
  target: string,
): Promise<void> {
  const mounting = lastMount.then(() =>
    way.mode === "erofs"
      ? mountFile(way, metaPath, dataPath, target)
      : mountLoop(way, metaPath, dataPath, target),
  );
  lastMount = mounting.catch(() => undefined);
  await mounting;
}

async function mountFile(
  { options }: ErofsWay,
  metaPath: string,
  dataPath: string | undefined,
  target: string,
): Promise<void> {
  const before = await readAheadDevices();
  await mountOne(metaPath, [...options, ...(dataPath === undefined ? [] : [`device=${dataPath}`])], target);
  for (const name of (await readAheadDevices()).difference(before)) {
    if (name.startsWith("erofs")) {
      await raiseIfAllowed(name);
    }
  }
}

async function mountLoop(
  { options }: ErofsWay,
  metaPath: string,
  dataPath: string | undefined,
  target: string,
): Promise<void> {
  using meta = attachLoop(metaPath);
  using data = dataPath === undefined ? undefined : attachLoop(dataPath);
  await mountOne(meta.path, [...options, ...(data === undefined ? [] : [`device=${data.path}`])], target);
  const mounted = mountedAt(await readMountInfo(), await realTarget(target));
  if (mounted !== undefined) {
    await raiseIfAllowed(mounted.device);
  }
}

async function mountOne(source: string, options: readonly string[], target: string): Promise<void> {
  await mountAll([{ type: "erofs", source, options: ["ro", ...options] }], target);
}

/** The mount is there, and right without it. */
async function raiseIfAllowed(device: string): Promise<void> {
  await raiseReadAhead(device, readAheadKiB).catch(() => undefined);
}
