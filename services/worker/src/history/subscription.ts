import type { HistoryEvent } from "./build-record.ts";

/** What one listener is still to be told. */
export class Subscription implements Disposable {
  readonly #isWanted: (event: HistoryEvent) => boolean;
  #waiting: HistoryEvent[] = [];
  #news = Promise.withResolvers<void>();
  #hasEnded = false;

  constructor(isWanted: (event: HistoryEvent) => boolean) {
    this.#isWanted = isWanted;
  }

  push(event: HistoryEvent): void {
    if (this.#isWanted(event)) {
      this.#waiting.push(event);
      this.#news.resolve();
    }
  }

  /** Nothing more will be told. */
  end(): void {
    this.#hasEnded = true;
    this.#news.resolve();
  }

  [Symbol.dispose](): void {
    this.end();
  }

  /** What has been pushed since the beginning and what will be, until `signal` aborts or it ends. */
  async *events(signal: AbortSignal): AsyncGenerator<HistoryEvent, void> {
    const onAbort = () => this.end();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (!signal.aborted) {
        const events = this.#waiting;
        this.#waiting = [];
        yield* events;
        if (this.#waiting.length === 0) {
          if (this.#hasEnded) {
            return;
          }
          await this.#news.promise;
        }
        this.#news = Promise.withResolvers();
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}
