import { Worker } from "node:worker_threads";
import { errorOf } from "@oci-worker/errdefs/connect";
import { InexpressibleError } from "@oci-worker/estargz/inexpressible";
import { lastWordOf } from "@oci-worker/layer/last-word";
import type { LayerOutcome, LayerProgress, LayerTask, WrittenLayer } from "./layer-messages.ts";

/**
 * Makes a layer in a thread of its own: reading trees blocks, and compressing keeps a core busy.
 *
 * @param signal ends it wherever it is; its reason is thrown after the thread has gone.
 * @throws what `packLayer` throws; what system calls fail with as UnknownError or ResourceExhaustedError.
 */
export async function makeLayer(
  task: LayerTask,
  onProgress: (progress: LayerProgress) => void,
  signal: AbortSignal,
): Promise<WrittenLayer> {
  signal.throwIfAborted();
  const thread = new Worker(new URL("./layer-thread.ts", import.meta.url), {
    name: "make layer",
    workerData: task,
  });
  const stop = () => void thread.terminate();
  signal.addEventListener("abort", stop, { once: true });
  try {
    const outcome = await lastWordOf<LayerProgress, LayerOutcome>(thread, "make layer", onProgress);
    signal.throwIfAborted();
    switch (outcome.kind) {
      case "written":
        return outcome.layer;
      case "inexpressible":
        throw new InexpressibleError(outcome.obstacle);
      case "failed":
        throw errorOf(outcome.status);
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
