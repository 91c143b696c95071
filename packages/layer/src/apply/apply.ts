import { randomFill } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { DataLossError } from "@oci-worker/errdefs";
import { isInUserNamespace } from "@oci-worker/libc/user-namespace";
import type { Digest } from "@oci-worker/oci/digest";
import { type Compression, detectCompression, magicBytes } from "../compression/detect.ts";
import { programFor, startProgram } from "../compression/program.ts";
import { lastWordOf } from "../last-word.ts";
import { errorOf } from "./failure.ts";
import {
  type Applied,
  canceledAt,
  type Outcome,
  type Progress,
  programEndAt,
  programEnds,
  sharedBytes,
  type Task,
} from "./messages.ts";

export type { Applied, Progress } from "./messages.ts";
export type { Skip } from "./skips.ts";

export interface LayerToApply {
  /** The file that holds the layer as it came, compressed or not. */
  readonly blobPath: string;
  /** What the blob must be: as the manifest's descriptor says. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** What it must be uncompressed: as the image's configuration says. */
  readonly diffId: Digest;
  /** Where it is applied: a directory with the lower layers in it, a mounted snapshot as a rule. */
  readonly directory: string;
  /** The most that the archive, and the files in it, may come to. Default: what fits on the disk. */
  readonly maxUnpackedBytes?: number;
  /** Called some ten times a second. */
  readonly onProgress?: (progress: Progress) => void;
}

/**
 * Whoever first gives the thread pool work starts its threads, and they take over the root of that thread. So this one
 * has to. (A call to the file system would do, if libuv were not free to make it without the pool.)
 */
const startThreadPool = promisify(randomFill);

/**
 * Applies an OCI layer to a directory (OCI image-spec, layer.md, "Applying Changesets").
 *
 * All work is done in a worker thread of its own, whose root directory is `layer.directory`: whatever names and links
 * the layer has, the kernel keeps that thread inside. The caller's thread stays free.
 *
 * After an error the directory holds a part of the layer: remove the snapshot.
 *
 * @param signal ends it between two pieces of data; its reason is thrown, after the thread has gone.
 * @throws {DataLossError} if the blob or what it unpacks to is not what its digest says.
 * @throws {InvalidArgumentError} naming the entry and what is wrong with it, or how the archive is malformed.
 * @throws {ResourceExhaustedError} if the disk is full or the layer larger than allowed.
 * @throws {PermissionDeniedError} {FailedPreconditionError} if the host or the mount does not let us.
 */
export async function applyLayer(layer: LayerToApply, signal: AbortSignal): Promise<Applied> {
  signal.throwIfAborted();
  await startThreadPool(Buffer.alloc(1));
  await using blob = await open(layer.blobPath);
  await checkSize(layer, blob);
  const isUserNamespace = isInUserNamespace();
  const compression = await compressionOf(blob);
  const programPath = await programFor(compression, blob, layer.sizeBytes);
  signal.throwIfAborted();

  const shared = new Int32Array(new SharedArrayBuffer(sharedBytes));
  using _onAbort = onAbort(signal, () => set(shared, canceledAt, 1));
  await using program =
    programPath === undefined
      ? undefined
      : startProgram(
          programPath,
          blob.fd,
          isUserNamespace,
          (end) => set(shared, programEndAt, programEnds[end]),
          signal,
        );
  const { digest, sizeBytes, diffId, directory, maxUnpackedBytes = Number.MAX_SAFE_INTEGER } = layer;
  const what = { digest, sizeBytes, diffId, directory, maxUnpackedBytes };
  const outcome = await runThread(
    { ...what, blobFd: blob.fd, archiveFd: program?.outputFd, compression, isUserNamespace, shared },
    layer.onProgress,
  );
  switch (outcome.kind) {
    case "applied":
      return {
        ...outcome.applied,
        decompressor: compression === "none" ? "none" : (program?.name ?? "node:zlib"),
      };
    case "failed":
      throw errorOf(outcome.failure);
    case "canceled":
      throw signal.reason;
  }
}

async function checkSize({ digest, sizeBytes }: LayerToApply, blob: FileHandle): Promise<void> {
  const { size } = await blob.stat();
  if (size !== sizeBytes) {
    throw new DataLossError(`Cannot apply layer ${digest}: its blob has ${size} bytes, want ${sizeBytes}`);
  }
}

async function compressionOf(blob: FileHandle): Promise<Compression> {
  const { buffer, bytesRead } = await blob.read(Buffer.alloc(magicBytes), 0, magicBytes, 0);
  return detectCompression(buffer.subarray(0, bytesRead));
}

function set(shared: Int32Array, at: number, value: number): void {
  Atomics.store(shared, at, value);
  Atomics.notify(shared, at);
}

function onAbort(signal: AbortSignal, act: () => void): Disposable {
  signal.addEventListener("abort", act, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", act) };
}

/** Runs the thread to its end and gives its last word. */
function runThread(task: Task, onProgress: LayerToApply["onProgress"]): Promise<Outcome> {
  const thread = new Worker(new URL("./apply-thread.ts", import.meta.url), {
    name: "apply layer",
    workerData: task,
    // Some variables and flags have Node write coverage, profiles or caches when the thread ends: into the layer.
    env: {},
    execArgv: [],
  });
  return lastWordOf<Progress, Outcome>(thread, `apply layer ${task.digest}`, onProgress);
}
