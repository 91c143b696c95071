import type { Worker } from "node:worker_threads";
import { ServiceError } from "@oci-worker/errdefs";

/** What a thread says of how far it is. */
interface ProgressMessage<Progress> {
  readonly kind: "progress";
  readonly progress: Progress;
}

/**
 * Waits until `thread` has gone, and gives what it said last that was not about its progress.
 *
 * Not before it has gone: until then it may still use files that it was given.
 *
 * @param what it does, as in "apply layer sha256:…".
 * @throws {ServiceError} INTERNAL if it ended without a word.
 */
export function lastWordOf<Progress, Outcome extends { readonly kind: string }>(
  thread: Worker,
  what: string,
  onProgress: (progress: Progress) => void = () => undefined,
): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  let outcome: Outcome | undefined;
  let failure: unknown;
  thread.on("message", (message: ProgressMessage<Progress> | Outcome) => {
    if (isProgress<Progress, Outcome>(message)) {
      onProgress(message.progress);
    } else {
      outcome = message;
    }
  });
  thread.on("error", (error) => {
    failure = error;
  });
  thread.on("exit", () => {
    if (outcome !== undefined && failure === undefined) {
      resolve(outcome);
    } else {
      const why = failure instanceof Error ? `: ${failure.message}` : "";
      const message = `Cannot ${what}: its thread ended without a result${why}`;
      reject(new ServiceError("INTERNAL", message, { cause: failure }));
    }
  });
  return promise;
}

function isProgress<Progress, Outcome extends { readonly kind: string }>(
  message: ProgressMessage<Progress> | Outcome,
): message is ProgressMessage<Progress> {
  return message.kind === "progress";
}
