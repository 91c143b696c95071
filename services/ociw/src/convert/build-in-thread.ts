import { Worker } from "node:worker_threads";
import { errorOf } from "@oci-worker/errdefs/connect";
import type { BuiltLayer } from "@oci-worker/estargz/build";
import { InexpressibleError } from "@oci-worker/estargz/inexpressible";
import { lastWordOf } from "@oci-worker/layer/last-word";
import type { BuildOutcome, BuildProgress, BuildTask } from "./build-messages.ts";

/**
 * Builds a layer in a thread of its own, because that blocks.
 *
 * @param signal ends it wherever it is; its reason is thrown after the thread has gone.
 * @throws what `buildLayer` throws; what system calls fail with as UnknownError or ResourceExhaustedError.
 */
export async function buildInThread(
  task: BuildTask,
  onProgress: (progress: BuildProgress) => void,
  signal: AbortSignal,
): Promise<BuiltLayer> {
  signal.throwIfAborted();
  const thread = new Worker(new URL("./build-thread.ts", import.meta.url), {
    name: "build layer",
    workerData: task,
  });
  const stop = () => void thread.terminate();
  signal.addEventListener("abort", stop, { once: true });
  let message: BuildOutcome;
  try {
    message = await lastWordOf<BuildProgress, BuildOutcome>(thread, "build layer", onProgress);
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
  signal.throwIfAborted();
  switch (message.kind) {
    case "built":
      return message.layer;
    case "inexpressible":
      throw new InexpressibleError(message.obstacle);
    case "failed":
      throw errorOf(message.status);
  }
}
