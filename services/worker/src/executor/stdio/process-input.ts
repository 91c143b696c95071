/**
 * As much may wait for a process that does not read, in bytes. Behind it whoever writes has to wait, and with them what they
 * want to say besides: enough that a signal still comes through after what a person has typed or pasted.
 */
const maxWaitingBytes = 256 * 1024;

/** What a process is given to read: written at one side, taken at the other, bounded in between. */
export class ProcessInput implements AsyncIterable<Uint8Array> {
  readonly #chunks: Uint8Array[] = [];
  #waitingBytes = 0;
  #isEnded = false;
  /** Resolved, and new again, whenever something has changed. */
  #changed = Promise.withResolvers<void>();

  /** Whether it takes no more, for it was ended, or nobody reads it any more. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Resolves when there is room for more. Of a process that reads no more the rest is dropped. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.#isEnded || chunk.length === 0) {
      return;
    }
    this.#chunks.push(chunk);
    this.#waitingBytes += chunk.length;
    this.#tell();
    while (this.#waitingBytes > maxWaitingBytes) {
      await this.#changed.promise;
    }
  }

  /** The process finds the end of its input behind what has been written. */
  end(): void {
    this.#isEnded = true;
    this.#tell();
  }

  /** Nobody reads it any more: what waits is dropped. */
  discard(): void {
    this.#chunks.length = 0;
    this.#waitingBytes = 0;
    this.end();
  }

  /** For one reader. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        yield chunk;
        this.#waitingBytes = Math.max(0, this.#waitingBytes - chunk.length);
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
