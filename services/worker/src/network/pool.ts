import type { Logger } from "pino";
import { waitOrAbandon } from "./abandon.ts";

export interface PoolOptions<T> {
  /** So many are kept, those in use included. */
  readonly targetSize: number;
  /** One beyond the target that nobody has used for so long is released. */
  readonly idleMs: number;
  readonly make: () => Promise<T>;
  /** Must not throw. */
  readonly release: (item: T) => Promise<void>;
  readonly log: Logger;
}

interface Idle<T> {
  readonly item: T;
  readonly sinceMs: number;
}

/**
 * Things that take long to make and can be used again, such as networks: made ahead of need, the one used last given out
 * first, those that are too many released when they have lain idle.
 *
 * Disposing releases the idle ones and waits for those that are being made; one that is in use then is released when it
 * is put back.
 */
export class Pool<T> implements AsyncDisposable {
  readonly #options: PoolOptions<T>;
  /** The longest idle first. */
  readonly #idle: Idle<T>[] = [];
  readonly #background = new Set<Promise<void>>();
  #size = 0;
  #isFilling = false;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: PoolOptions<T>) {
    this.#options = options;
  }

  /** Begins to make what is missing to the target, one after the other. A failure is logged and ends it. */
  fill(): void {
    if (this.#isFilling || this.#isClosed) {
      return;
    }
    this.#isFilling = true;
    this.#keep(
      this.#fill()
        .catch((err: unknown) => this.#options.log.error({ err }, "network for the pool could not be made"))
        .finally(() => {
          this.#isFilling = false;
        }),
    );
  }

  /**
   * One that nobody else has until it is put back: an idle one, or a new one.
   *
   * @param signal gives up waiting; what was being made goes into the pool.
   */
  async take(signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      return idle.item;
    }
    return await waitOrAbandon(this.#make(), signal, (making) =>
      this.#keep(
        making.then(
          (item) => this.put(item),
          () => undefined,
        ),
      ),
    );
  }

  /** Gives one back, for others to use. */
  async put(item: T): Promise<void> {
    if (this.#isClosed) {
      await this.#release(item);
      return;
    }
    this.#idle.push({ item, sinceMs: performance.now() });
    this.#watch();
  }

  /** Gives one back that must not be used again, and has another made in its place. */
  async drop(item: T): Promise<void> {
    await this.#release(item);
    this.fill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.all(this.#background);
    await Promise.all(this.#idle.splice(0).map(({ item }) => this.#release(item)));
  }

  async #fill(): Promise<void> {
    while (!this.#isClosed && this.#size < this.#options.targetSize) {
      await this.put(await this.#make());
    }
    if (this.#options.targetSize > 0) {
      this.#options.log.debug({ size: this.#size }, "networks made ahead of need");
    }
  }

  async #make(): Promise<T> {
    this.#size += 1;
    try {
      return await this.#options.make();
    } catch (error) {
      this.#size -= 1;
      throw error;
    }
  }

  async #release(item: T): Promise<void> {
    this.#size -= 1;
    await this.#options.release(item);
  }

  /** Looks again when the longest idle one will have been so for long enough, if there are too many. */
  #watch(): void {
    const [oldest] = this.#idle;
    if (oldest === undefined || this.#size <= this.#options.targetSize || this.#isClosed) {
      return;
    }
    clearTimeout(this.#timer);
    const waitMs = oldest.sinceMs + this.#options.idleMs - performance.now();
    this.#timer = setTimeout(() => this.#shrink(), Math.max(0, waitMs));
    this.#timer.unref();
  }

  #shrink(): void {
    const dueMs = performance.now() - this.#options.idleMs;
    for (let [oldest] = this.#idle; oldest !== undefined; [oldest] = this.#idle) {
      if (oldest.sinceMs > dueMs || this.#size <= this.#options.targetSize) {
        break;
      }
      this.#idle.shift();
      this.#keep(this.#release(oldest.item));
    }
    this.#watch();
  }

  /** Remembers what goes on behind everybody's back, so that disposing can wait for it. */
  #keep(work: Promise<void>): void {
    this.#background.add(work);
    void work.finally(() => this.#background.delete(work));
  }
}
