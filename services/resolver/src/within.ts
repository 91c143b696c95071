/**
 * What `promise` comes to, if it does so within `ms`; undefined if it takes longer. It goes on then, and its failure is
 * for whoever else waits for it.
 */
export async function within<T>(promise: Promise<T>, ms: number): Promise<{ readonly value: T } | undefined> {
  const timeUp = Promise.withResolvers<undefined>();
  const timer = setTimeout(timeUp.resolve, ms, undefined);
  try {
    return await Promise.race([promise.then((value) => ({ value })), timeUp.promise]);
  } finally {
    clearTimeout(timer);
  }
}
