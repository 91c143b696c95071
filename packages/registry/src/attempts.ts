import { NotFoundError, ServiceError } from "@oci-worker/errdefs";
import { TransientError } from "./http/errors.ts";
import type { Retries } from "./retry.ts";

/** One place to try. */
export type Attempt<T> = () => Promise<T>;

interface Failure<T> {
  readonly attempt: Attempt<T>;
  readonly error: ServiceError;
}

/**
 * What the first place to serve it gives.
 *
 * Places are tried in order; one that fails costs no wait while there is another. When all have failed, those whose
 * failure may pass are tried again after a pause.
 *
 * @throws the first failure that is not "not found", because a mirror that lacks something says less than a host that
 * refuses it; else "not found".
 */
export async function firstToServe<T>(
  attempts: readonly Attempt<T>[],
  retries: Retries,
  signal: AbortSignal | undefined,
): Promise<T> {
  let left = attempts;
  const settled: Failure<T>[] = [];
  for (;;) {
    const failures: Failure<T>[] = [];
    for (const attempt of left) {
      try {
        return await attempt();
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof ServiceError)) {
          throw error;
        }
        failures.push({ attempt, error });
      }
    }
    const passing = failures.filter(({ error }) => error instanceof TransientError);
    settled.push(...failures.filter(({ error }) => !(error instanceof TransientError)));
    if (!(await retries.wait(passing[0]?.error, signal))) {
      throw mostTelling([...settled, ...passing].map(({ error }) => error));
    }
    left = passing.map(({ attempt }) => attempt);
  }
}

function mostTelling(errors: readonly ServiceError[]): ServiceError | undefined {
  return errors.find((error) => !(error instanceof NotFoundError)) ?? errors[0];
}
