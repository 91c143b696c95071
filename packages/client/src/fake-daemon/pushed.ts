/** Values that are pushed by one side and iterated by the other, all kept until they are taken. */
export class Pushed<T> implements AsyncIterable<T> {
  readonly #values: T[] = [];
  #changed = Promise.withResolvers<void>();
  #ended = false;

  push(value: T): void {
    this.#values.push(value);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      while (this.#values.length > 0) {
        yield* this.#values.splice(0);
      }
      if (this.#ended) {
        return;
      }
      await this.#changed.promise;
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
