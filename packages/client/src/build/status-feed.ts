import type { StatusUpdate } from "./status.ts";

/** Updates that are kept for a reader that is slow or has not begun. */
const highWater = 256;

/**
 * Updates on their way from the daemon to one reader.
 *
 * As long as a reader may come, a full feed holds the daemon's stream back. Once nobody is expected, what does not fit
 * is dropped.
 */
export class StatusFeed implements AsyncIterableIterator<StatusUpdate, undefined> {
  readonly #queue: StatusUpdate[] = [];
  #reader: PromiseWithResolvers<IteratorResult<StatusUpdate, undefined>> | undefined;
  #room: PromiseWithResolvers<void> | undefined;
  #begun = false;
  #left = false;
  #ended = false;
  #expectsReader = true;
  #error: unknown;

  /** Resolves when the next update may follow. */
  async offer(update: StatusUpdate): Promise<void> {
    if (this.#left || this.#ended) {
      return;
    }
    if (this.#reader !== undefined) {
      this.#reader.resolve({ done: false, value: update });
      this.#reader = undefined;
      return;
    }
    if (this.#queue.length < highWater) {
      this.#queue.push(update);
    } else if (this.#expectsReader) {
      this.#room ??= Promise.withResolvers();
      await this.#room.promise;
      await this.offer(update);
    }
  }

  /** The build is over: who has not begun to read is not waited for. Who begins now gets what fits, and the rest. */
  stopWaiting(): void {
    if (!this.#begun) {
      this.#expectsReader = false;
      this.#makeRoom();
    }
  }

  /** No more updates come, because of `error` if there is one. */
  end(error?: unknown): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.#error = error;
    this.#makeRoom();
    if (this.#reader !== undefined) {
      this.#finish(this.#reader);
      this.#reader = undefined;
    }
  }

  next(): Promise<IteratorResult<StatusUpdate, undefined>> {
    this.#begun = true;
    this.#expectsReader = true;
    const update = this.#queue.shift();
    if (update !== undefined) {
      if (this.#queue.length < highWater / 2) {
        this.#makeRoom();
      }
      return Promise.resolve({ done: false, value: update });
    }
    const reader = Promise.withResolvers<IteratorResult<StatusUpdate, undefined>>();
    if (this.#ended || this.#left) {
      this.#finish(reader);
    } else {
      this.#reader = reader;
    }
    return reader.promise;
  }

  /** The reader has left. The build goes on. */
  return(): Promise<IteratorResult<StatusUpdate, undefined>> {
    this.#queue.length = 0;
    this.#left = true;
    this.#error = undefined;
    this.#makeRoom();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #makeRoom(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  #finish(reader: PromiseWithResolvers<IteratorResult<StatusUpdate, undefined>>): void {
    const error = this.#error;
    this.#error = undefined;
    if (error === undefined) {
      reader.resolve({ done: true, value: undefined });
    } else {
      reader.reject(error);
    }
  }
}
