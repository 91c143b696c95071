/** So many messages may wait for a client that reads slowly, before whoever sends has to wait; a message has up to 64 KiB. */
const highWater = 16;

/** Messages on their way to a client, put in by many and taken out by one, bounded in between. */
export class Outbox<T> implements AsyncIterable<T> {
  readonly #queue: T[] = [];
  #isClosed = false;
  #error: unknown;
  /** Resolved, and new again, whenever something has changed. */
  #changed = Promise.withResolvers<void>();

  /** @returns undefined if the next one may follow at once, else a promise of that moment, which does not reject. */
  send(message: T): Promise<void> | undefined {
    if (this.#isClosed) {
      return undefined;
    }
    this.#queue.push(message);
    this.#tell();
    return this.#queue.length < highWater ? undefined : this.#room();
  }

  /** No more messages follow. Those that wait are still sent. */
  end(): void {
    this.#isClosed = true;
    this.#tell();
  }

  /** No more messages follow, because of `error`. */
  fail(error: unknown): void {
    this.#error = error;
    this.discard();
  }

  /** Nobody reads any more: what waits is dropped, and nobody waits for room. */
  discard(): void {
    this.#queue.length = 0;
    this.end();
  }

  /** For one reader. @throws what it has failed with. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for (;;) {
      const message = this.#queue.shift();
      if (message !== undefined) {
        this.#tell();
        yield message;
      } else if (this.#isClosed) {
        break;
      } else {
        await this.#changed.promise;
      }
    }
    if (this.#error !== undefined) {
      throw this.#error;
    }
  }

  async #room(): Promise<void> {
    while (this.#queue.length >= highWater) {
      await this.#changed.promise;
    }
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
