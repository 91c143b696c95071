/**
 * What `work` makes of each of `items`, `width` of them at a time, in their order. When one fails the others are aborted,
 * and it is waited until they have ended: nobody works on behind the back of who asked.
 *
 * @throws what the first to fail has thrown.
 */
export async function together<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T, signal: AbortSignal) => Promise<R>,
  signal: AbortSignal,
): Promise<R[]> {
  const failed = new AbortController();
  const ends = AbortSignal.any([signal, failed.signal]);
  const results = new Map<number, R>();
  let failure: { readonly error: unknown } | undefined;
  const left = items.entries();
  const lane = async () => {
    for (const [index, item] of left) {
      try {
        ends.throwIfAborted();
        results.set(index, await work(item, ends));
      } catch (error) {
        failure ??= { error };
        failed.abort(error);
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  if (failure !== undefined) {
    throw failure.error;
  }
  return [...results].sort(([one], [other]) => one - other).map(([, result]) => result);
}
