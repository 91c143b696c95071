/** How a reader tells its stream to wait. */
export interface Flow {
  pause(): void;
  resume(): void;
}

/** With so many messages waiting, the stream is paused; HTTP/2 flow control then holds the sender back. */
const highWater = 16;

/**
 * The messages of a stream as an async iterable: pushed in by the stream's events, taken out by one reader.
 *
 * What was pushed before {@link end} or {@link fail} is still delivered. When the reader leaves the loop early,
 * later messages are dropped and `onReturn` is told.
 */
export class IncomingMessages<T> implements AsyncIterableIterator<T, undefined> {
  readonly #flow: Flow;
  readonly #onReturn: () => void;
  #queue: T[] = [];
  #reader: PromiseWithResolvers<IteratorResult<T, undefined>> | undefined;
  #paused = false;
  #closed = false;
  #error: unknown;

  constructor(flow: Flow, onReturn: () => void = () => undefined) {
    this.#flow = flow;
    this.#onReturn = onReturn;
  }

  push(message: T): void {
    if (this.#closed) {
      return;
    }
    if (this.#reader !== undefined) {
      this.#reader.resolve({ done: false, value: message });
      this.#reader = undefined;
      return;
    }
    this.#queue.push(message);
    if (!this.#paused && this.#queue.length >= highWater) {
      this.#paused = true;
      this.#flow.pause();
    }
  }

  /** No more messages will come. */
  end(): void {
    this.#close(undefined);
  }

  /** No more messages will come, because of `error`. */
  fail(error: unknown): void {
    this.#close(error);
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const message = this.#queue.shift();
    if (message !== undefined) {
      if (this.#paused && this.#queue.length === 0) {
        this.#paused = false;
        this.#flow.resume();
      }
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#closed) {
      const error = this.#error;
      this.#error = undefined;
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    this.#reader ??= Promise.withResolvers();
    return this.#reader.promise;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#queue = [];
    if (!this.#closed) {
      this.#close(undefined);
      if (this.#paused) {
        this.#flow.resume();
      }
      this.#onReturn();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #close(error: unknown): void {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    if (this.#reader === undefined) {
      this.#error = error;
    } else if (error === undefined) {
      this.#reader.resolve({ done: true, value: undefined });
    } else {
      this.#reader.reject(error);
    }
    this.#reader = undefined;
  }
}
