/**
 * Waits for `work`, but no longer than until `signal`.
 *
 * @param abandoned is given the work that is no longer waited for: what it still comes to must not be lost.
 */
export async function waitOrAbandon<T>(
  work: Promise<T>,
  signal: AbortSignal,
  abandoned: (work: Promise<T>) => void,
): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) {
    abort();
  }
  try {
    return await Promise.race([work, aborted.promise]);
  } catch (error) {
    if (signal.aborted) {
      abandoned(work);
    }
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
