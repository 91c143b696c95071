/** Things that callers ask for by id, some of them before they are there. */
export class AwaitedMap<T> {
  readonly #things = new Map<string, T>();
  readonly #waiting = new Map<string, Set<(thing: T) => void>>();

  get(id: string): T | undefined {
    return this.#things.get(id);
  }

  has(id: string): boolean {
    return this.#things.has(id);
  }

  /** In the order in which they came. */
  values(): IterableIterator<T> {
    return this.#things.values();
  }

  set(id: string, thing: T): void {
    this.#things.set(id, thing);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    for (const tell of waiting ?? []) {
      tell(thing);
    }
  }

  delete(id: string): void {
    this.#things.delete(id);
  }

  /**
   * The thing `id`, waited for up to `patienceMs` if it is not there yet; undefined if it does not come.
   *
   * @throws the reason of `signal`.
   */
  async wait(id: string, patienceMs: number, signal: AbortSignal): Promise<T | undefined> {
    const present = this.#things.get(id);
    if (present !== undefined || patienceMs <= 0) {
      return present;
    }
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<T | undefined>();
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting.add(resolve));
    const timer = setTimeout(() => resolve(undefined), patienceMs);
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      waiting.delete(resolve);
      if (waiting.size === 0 && this.#waiting.get(id) === waiting) {
        this.#waiting.delete(id);
      }
    }
  }
}
