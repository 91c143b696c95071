export interface HandoffOptions<T> {
  /** So much may wait, in the unit of `sizeOf`, before whoever puts in has to. */
  readonly limit: number;
  /** 1 each if it is not given. */
  readonly sizeOf?: (value: T) => number;
}

/** Values on their way from many, who put them in, to one, who takes them out in their order; bounded in between. */
export class Handoff<T> implements AsyncIterable<T> {
  readonly #limit: number;
  readonly #sizeOf: (value: T) => number;
  readonly #values: T[] = [];
  /** Of all that the reader has not done with. */
  #waiting = 0;
  #isEnded = false;
  #error: unknown;
  /** Resolved, and new again, whenever something has changed. */
  #changed = Promise.withResolvers<void>();

  constructor({ limit, sizeOf = () => 1 }: HandoffOptions<T>) {
    this.#limit = limit;
    this.#sizeOf = sizeOf;
  }

  /** Whether it takes no more: it was ended, or nobody reads any more. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /**
   * What comes after the end is dropped.
   *
   * @returns undefined if the next one may follow at once, else a promise of that moment, which does not reject.
   */
  put(value: T): Promise<void> | undefined {
    if (this.#isEnded) {
      return undefined;
    }
    this.#values.push(value);
    this.#waiting += this.#sizeOf(value);
    this.#tell();
    return this.#waiting > this.#limit ? this.#room() : undefined;
  }

  /** No more follow. Those that wait are still handed on. */
  end(): void {
    this.#isEnded = true;
    this.#tell();
  }

  /** Nobody reads any more, because of `error`, which the reader is told. */
  fail(error: unknown): void {
    this.#error = error;
    this.discard();
  }

  /** Nobody reads any more: what waits is dropped, and nobody waits for room. */
  discard(): void {
    this.#values.length = 0;
    this.#waiting = 0;
    this.end();
  }

  /** For one reader. @throws what it has failed with. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for (;;) {
      const value = this.#values.shift();
      if (value !== undefined) {
        yield value;
        this.#waiting = Math.max(0, this.#waiting - this.#sizeOf(value));
        this.#tell();
      } else if (this.#isEnded) {
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
    while (this.#waiting > this.#limit) {
      await this.#changed.promise;
    }
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
