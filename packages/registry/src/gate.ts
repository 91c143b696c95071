/** Lets a limited number of holders in at a time, in the order in which they came. */
class Gate {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(places: number) {
    this.#free = places;
  }

  /** Waits for a place, which is free again when what it gives is disposed of. */
  async enter(signal: AbortSignal | undefined): Promise<Disposable> {
    signal?.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
    } else {
      await this.#wait(signal);
    }
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) {
          held = false;
          this.#leave();
        }
      },
    };
  }

  /** A place goes from one who leaves to the next who waits, without becoming free in between. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
    } else {
      this.#waiting.delete(next);
      next();
    }
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const admit = () => resolve();
    this.#waiting.add(admit);
    const abort = () => {
      this.#waiting.delete(admit);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
    return promise.finally(() => signal?.removeEventListener("abort", abort));
  }
}

/** What a request moves: a document is short and somebody waits for it, a blob may be gigabytes. */
export type Load = "document" | "blob";

/** Limits how many requests one host has to serve at a time, so that documents never wait for blobs. */
export class HostGates {
  readonly #blobs: Gate;
  readonly #all: Gate;

  /** @param maxBlobs blobs at a time; one more request is let in for documents. */
  constructor(maxBlobs: number) {
    this.#blobs = new Gate(maxBlobs);
    this.#all = new Gate(maxBlobs + 1);
  }

  async enter(load: Load, signal: AbortSignal | undefined): Promise<Disposable> {
    using places = new DisposableStack();
    if (load === "blob") {
      places.use(await this.#blobs.enter(signal));
    }
    places.use(await this.#all.enter(signal));
    return places.move();
  }
}
