import { Worker } from "node:worker_threads";
import { ServiceError } from "@oci-worker/errdefs";
import { errorOf } from "@oci-worker/errdefs/connect";
import type { BuiltLayer } from "@oci-worker/estargz/build";
import { InexpressibleError } from "@oci-worker/estargz/inexpressible";
import type { BuildMessage, BuildOutcome, BuildProgress, BuildTask } from "./build-messages.ts";

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
  const message = await lastWord(task, onProgress, signal);
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

function lastWord(
  task: BuildTask,
  onProgress: (progress: BuildProgress) => void,
  signal: AbortSignal,
): Promise<BuildOutcome> {
  const { promise, resolve, reject } = Promise.withResolvers<BuildOutcome>();
  const thread = new Worker(new URL("./build-thread.ts", import.meta.url), {
    name: "build layer",
    workerData: task,
  });
  const stop = () => void thread.terminate();
  signal.addEventListener("abort", stop, { once: true });
  let last: BuildOutcome | undefined;
  let failure: unknown;
  thread.on("message", (message: BuildMessage) => {
    if (message.kind === "progress") {
      onProgress(message.progress);
    } else {
      last = message;
    }
  });
  thread.on("error", (error) => {
    failure = error;
  });
  // Not before: until then the thread may still use the files.
  thread.on("exit", () => {
    signal.removeEventListener("abort", stop);
    if (last !== undefined) {
      resolve(last);
    } else {
      const why = failure instanceof Error ? `: ${failure.message}` : "";
      const message = `Cannot build layer: its thread ended without a result${why}`;
      reject(signal.aborted ? signal.reason : new ServiceError("INTERNAL", message, { cause: failure }));
    }
  });
  return promise;
}
