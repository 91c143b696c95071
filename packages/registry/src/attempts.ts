import { NotFoundError, ServiceError } from "@oci-worker/errdefs";
import { NoTlsError, TransientError } from "./http/errors.ts";
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
 * @throws the failure that tells most: a mirror that lacks something says less than a host that refuses it, and one that does
 * not speak TLS less than what it says without. Among equals the first.
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
  const rank = (error: ServiceError) =>
    error instanceof NotFoundError ? 2 : error instanceof NoTlsError ? 1 : 0;
  return errors.toSorted((one, other) => rank(one) - rank(other))[0];
}
