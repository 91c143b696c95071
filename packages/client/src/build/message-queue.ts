/** Messages on their way to the daemon. Whoever pushes may wait until it has taken them. */
export class MessageQueue<T> implements AsyncIterable<T> {
  readonly #messages: T[] = [];
  #isEnded = false;
  #changed = Promise.withResolvers<void>();

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Resolves when all that waits has been taken; nothing is taken any more once it has ended. */
  async push(message: T): Promise<void> {
    if (this.#isEnded) {
      return;
    }
    this.#messages.push(message);
    this.#tell();
    while (this.#messages.length > 0) {
      await this.#changed.promise;
    }
  }

  end(): void {
    this.#isEnded = true;
    this.#tell();
  }

  /** Ends it, and drops what waits. */
  discard(): void {
    this.#messages.length = 0;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) {
        yield message;
        this.#tell();
      } else if (this.#isEnded) {
        return;
      } else {
        await this.#changed.promise;
      }
    }
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
