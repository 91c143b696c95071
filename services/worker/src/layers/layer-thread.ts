// The worker thread that makes one layer and ends: see make-layer.ts.
import { writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { statusOfFileWork } from "@oci-worker/errdefs/connect";
import { InexpressibleError } from "@oci-worker/estargz/inexpressible";
import type { LayerOutcome, LayerTask } from "./layer-messages.ts";
import { packLayer } from "./pack-layer.ts";

/** How often it is told how far the work is, in milliseconds. */
const progressIntervalMs = 100;

async function run({ targetFd, ...task }: LayerTask): Promise<LayerOutcome> {
  let [writtenBytes, toldAtMs] = [0, 0];
  const write = async (bytes: Buffer) => {
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(targetFd, bytes, at, bytes.length - at);
    }
    writtenBytes += bytes.length;
    if (performance.now() - toldAtMs >= progressIntervalMs) {
      toldAtMs = performance.now();
      parentPort?.postMessage({ kind: "progress", progress: { writtenBytes } });
    }
  };
  try {
    const { digest, sizeBytes, diffID, annotations } = await packLayer(task, write);
    return { kind: "written", layer: { digest, sizeBytes, diffID, annotations } };
  } catch (error) {
    return error instanceof InexpressibleError
      ? { kind: "inexpressible", obstacle: error.obstacle }
      : { kind: "failed", status: statusOfFileWork(error) };
  }
}

parentPort?.postMessage(await run(workerData as LayerTask));
