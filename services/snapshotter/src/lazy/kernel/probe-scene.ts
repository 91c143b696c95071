import { once } from "node:events";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { imageOf, tableOf } from "@oci-worker/erofs/image";
import type { Directory } from "@oci-worker/erofs/node";
import { closeDevice, mountDevice, openDevice } from "@oci-worker/fuse/device";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { openElsewhere } from "./look-up.ts";
import { type ProbeServerData, probeContent, probeFile } from "./probe-file-system.ts";

/** A layer of one small file, served by a thread, to try ways to mount it. */
export interface ProbeScene extends AsyncDisposable {
  readonly path: string;
  readonly metaPath: string;
  /** Its data device, on FUSE. */
  readonly dataPath: string;
  /** A directory to mount it on. */
  readonly target: string;
}

/**
 * Makes a scene in the directory `path`. Disposing unmounts and removes all, and so does the next one after one that was
 * killed.
 *
 * @throws {FailedPreconditionError} if FUSE cannot be mounted.
 */
export async function openProbeScene(path: string): Promise<ProbeScene> {
  await using undo = new AsyncDisposableStack();
  await clear(path);
  undo.defer(() => clear(path));
  const [metaPath, blobs, target] = [`${path}/meta.erofs`, `${path}/blobs`, `${path}/target`];
  await mkdir(blobs, { recursive: true, mode: 0o700 });
  await mkdir(target);
  await writeFile(metaPath, probeImage());

  const fd = openDevice();
  undo.defer(() => closeDevice(fd));
  mountDevice(fd, blobs, { name: path, isImage: false });
  const ended = serveProbe({ fd });
  undo.defer(async () => {
    await unmountBeneath(path);
    await ended;
  });
  const dataPath = `${blobs}/${probeFile}`;
  await openElsewhere(dataPath);
  const owned = undo.move();
  return { path, metaPath, dataPath, target, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Serves the data device, or the files of an image, from a thread. @returns when the thread has ended, with its mount. */
export async function serveProbe(data: ProbeServerData): Promise<void> {
  await once(new Worker(new URL("./probe-server.ts", import.meta.url), { workerData: data }), "exit");
}

async function clear(path: string): Promise<void> {
  await unmountBeneath(path);
  await rm(path, { recursive: true, force: true });
}

const attributes = { permissions: 0o755, uid: 0, gid: 0, modifiedNs: 0n, xattrs: new Map<string, Buffer>() };

function probeImage(): Buffer {
  const file = { ...attributes, kind: "file", sizeBytes: probeContent.length, dataBlock: 0 } as const;
  const root: Directory = { ...attributes, kind: "directory", entries: new Map([[probeFile, file]]) };
  return imageOf(tableOf(root), { dataBlocks: 1, uuid: Buffer.alloc(16) });
}
