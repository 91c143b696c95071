// The worker thread that builds one layer and ends: see build-in-thread.ts.
import { readSync, writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { statusOfFileWork } from "@oci-worker/errdefs/connect";
import { buildLayer } from "@oci-worker/estargz/build";
import { InexpressibleError } from "@oci-worker/estargz/inexpressible";
import type { BuildMessage, BuildTask } from "./build-messages.ts";

/** What is read of the layer at once. */
const pieceBytes = 1024 * 1024;

/** How often it is told how far the work is, in milliseconds. */
const progressIntervalMs = 100;

async function run({ sourceFd, sourceBytes, targetFd, options }: BuildTask): Promise<BuildMessage> {
  let [readBytes, writtenBytes, toldAtMs] = [0, 0, 0];
  const tell = () => {
    if (performance.now() - toldAtMs >= progressIntervalMs) {
      toldAtMs = performance.now();
      say({ kind: "progress", progress: { readBytes, writtenBytes } });
    }
  };
  function* pieces(): Generator<Buffer> {
    while (readBytes < sourceBytes) {
      const piece = Buffer.allocUnsafe(Math.min(pieceBytes, sourceBytes - readBytes));
      const count = readSync(sourceFd, piece, 0, piece.length, readBytes);
      if (count === 0) {
        return;
      }
      readBytes += count;
      tell();
      yield piece.subarray(0, count);
    }
  }
  const write = async (bytes: Buffer) => {
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(targetFd, bytes, at, bytes.length - at, writtenBytes + at);
    }
    writtenBytes += bytes.length;
    tell();
  };
  try {
    const layer = await buildLayer({ pieces: pieces(), sizeBytes: sourceBytes }, write, options);
    return { kind: "built", layer };
  } catch (error) {
    return error instanceof InexpressibleError
      ? { kind: "inexpressible", obstacle: error.obstacle }
      : { kind: "failed", status: statusOfFileWork(error) };
  }
}

function say(message: BuildMessage): void {
  parentPort?.postMessage(message);
}

say(await run(workerData as BuildTask));
