import { setTimeout as delay } from "node:timers/promises";
import type { ResourceSpans } from "@oci-worker/api/opentelemetry/trace";
import type { Logger } from "pino";
import type { Collector } from "./collector.ts";
import { GrpcSender } from "./grpc-sender.ts";
import { HttpSender } from "./http-sender.ts";
import { type SpanBatch, SpanQueue } from "./span-queue.ts";
import type { SpanSender } from "./span-sender.ts";

/** First wait for a collector that cannot be reached, and the longest; each further one is twice as long. */
const firstPauseMs = 1000;
const maxPauseMs = 30_000;

/** So long the end of the worker is held up at most by what is still to be sent. */
const flushMs = 5000;

/** What there is to tell people of, each once until all is well again. */
type Trouble = "unreachable" | "refused" | "rejected" | "full";

/** Passes the spans of builds on to the collector of the operator. Nobody waits for it: what has no room is dropped. */
export class SpanForwarder implements AsyncDisposable {
  readonly #collector: Collector;
  readonly #sender: SpanSender;
  readonly #queue: SpanQueue;
  readonly #log: Logger;
  readonly #working: Promise<void>;
  /** Nothing more comes. */
  readonly #ending = new AbortController();
  /** Nothing more is sent. */
  readonly #ended = new AbortController();
  /** Wakes who waits for spans. */
  #arrival = Promise.withResolvers<void>();
  readonly #told = new Set<Trouble>();
  #sent = 0;
  #dropped = 0;

  constructor(collector: Collector, log: Logger) {
    this.#collector = collector;
    this.#sender = collector.protocol === "grpc" ? new GrpcSender(collector) : new HttpSender(collector);
    this.#queue = new SpanQueue(collector.limits);
    this.#log = log;
    this.#working = this.#work();
  }

  /** Spans that the collector has taken. */
  get sent(): number {
    return this.#sent;
  }

  /** Spans that it has not, and never will have. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Has spans sent in a while. */
  add(spans: ResourceSpans): void {
    const tooMany = this.#queue.add(spans);
    if (tooMany > 0) {
      this.#drop(tooMany, "full", `more than ${this.#collector.limits.waitingSpans} wait, or too large ones`);
    }
    this.#arrival.resolve();
  }

  /** Sends what there is, if it can be sent soon, and ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    const limit = setTimeout(() => this.#ended.abort(), flushMs);
    this.#arrival.resolve();
    await this.#working;
    clearTimeout(limit);
    this.#sender[Symbol.dispose]();
    if (this.#dropped > 0) {
      this.#log.warn(
        { collector: this.#collector.place.text, sent: this.#sent, dropped: this.#dropped },
        "not all spans have come to the collector",
      );
    }
  }

  async #work(): Promise<void> {
    for (;;) {
      await this.#batchIsDue();
      const batch = this.#queue.take();
      if (batch !== undefined) {
        await this.#deliver(batch);
      } else if (this.#ending.signal.aborted) {
        return;
      }
    }
  }

  /** Resolves when there is a batch, or some spans have waited long enough, or nothing more comes. */
  async #batchIsDue(): Promise<void> {
    const { signal } = this.#ending;
    const arrival = async () => {
      this.#arrival = Promise.withResolvers();
      await this.#arrival.promise;
    };
    while (this.#queue.size === 0 && !signal.aborted) {
      await arrival();
    }
    const over = new AbortController();
    const waited = delay(this.#collector.limits.delayMs, true, { signal: over.signal }).catch(() => true);
    let isDue = false;
    waited.then(() => {
      isDue = true;
      this.#arrival.resolve();
    });
    while (!isDue && !this.#queue.hasBatch && !signal.aborted) {
      await arrival();
    }
    over.abort();
  }

  /** Sends a batch until it has been taken, or refused, or the worker ends. */
  async #deliver({ request, spans }: SpanBatch): Promise<void> {
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(maxPauseMs, pauseMs * 2)) {
      const outcome = await this.#sender.send(request, this.#ended.signal);
      switch (outcome.kind) {
        case "taken":
          this.#sent += spans - outcome.rejected;
          if (outcome.rejected > 0) {
            this.#drop(outcome.rejected, "rejected", outcome.why);
          } else {
            this.#recover();
          }
          return;
        case "refused":
          this.#drop(spans, "refused", outcome.why);
          return;
        case "unreachable":
          this.#tell("unreachable", outcome.why);
          if (this.#ending.signal.aborted) {
            this.#drop(spans, "unreachable", outcome.why);
            return;
          }
          await this.#pause(Math.max(pauseMs * (0.8 + Math.random() * 0.4), outcome.retryAfterMs));
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#ending.signal }).catch(() => undefined);
  }

  #drop(spans: number, trouble: Trouble, why: string): void {
    this.#dropped += spans;
    this.#tell(trouble, why);
  }

  #tell(trouble: Trouble, why: string): void {
    if (!this.#told.has(trouble)) {
      this.#told.add(trouble);
      const { text } = this.#collector.place;
      this.#log.warn({ collector: text, why, dropped: this.#dropped }, messages[trouble]);
    }
  }

  #recover(): void {
    // A flood would be told of with each batch that gets through.
    const hadLeft = [this.#told.delete("unreachable"), this.#told.delete("refused")];
    if (hadLeft.includes(true)) {
      this.#log.info(
        { collector: this.#collector.place.text, dropped: this.#dropped },
        "spans are sent to the collector again",
      );
    }
  }
}

const messages: Readonly<Record<Trouble, string>> = {
  unreachable: "collector cannot be reached, spans wait for it",
  refused: "collector refuses spans, which are dropped",
  rejected: "collector has not taken all spans",
  full: "spans are dropped, the oldest first",
};
