import type { ServerStream } from "./server-stream.ts";

/** Of so many streams that we have ended before the client had it is remembered that more may come. */
const maxLingering = 16_384;

/** Which streams a client has begun, and what has become of them (RFC 9113, section 5.1). */
export class StreamTable {
  readonly #open = new Map<number, ServerStream>();
  /** Ended by us. What the client sends on them until it hears of that is no mistake. */
  readonly #lingering = new Set<number>();
  #lastID = 0;

  /** Of the stream that was begun last; 0 if none was. */
  get lastID(): number {
    return this.#lastID;
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size;
  }

  /** Those that are open now. */
  all(): ServerStream[] {
    return [...this.#open.values()];
  }

  hasBegun(id: number): boolean {
    return id <= this.#lastID && id % 2 === 1;
  }

  find(id: number): ServerStream | undefined {
    return this.#open.get(id);
  }

  /** A client numbers its streams upwards. */
  begin(id: number): void {
    this.#lastID = id;
  }

  add(stream: ServerStream): void {
    this.#open.set(stream.id, stream);
  }

  /** @returns false if it was closed already. */
  remove(stream: ServerStream): boolean {
    return this.#open.delete(stream.id);
  }

  /** We have ended the stream, and the client may not know. */
  linger(id: number): void {
    this.#lingering.add(id);
    if (this.#lingering.size > maxLingering) {
      const { value: oldest } = this.#lingering.values().next();
      this.#lingering.delete(oldest ?? 0);
    }
  }

  isLingering(id: number): boolean {
    return this.#lingering.has(id);
  }

  /** The client has ended its side, too. */
  forget(id: number): void {
    this.#lingering.delete(id);
  }
}
