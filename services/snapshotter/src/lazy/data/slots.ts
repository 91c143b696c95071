import { setTimeout as sleep } from "node:timers/promises";

/** Who wants a slot: somebody who waits for what comes, or nobody yet. */
export type Urgency = "demand" | "background";

/** Of all slots those that background work may have at a time, as long as there are others. */
const maxBackground = 2;

/**
 * Background work lets so much time pass after somebody has waited: a program that starts reads one thing after the other,
 * and what is decompressed between two of them keeps the second waiting; and between the pull of an image and its start is
 * a while. But it never waits longer than the other.
 */
const [quietMs, patienceMs] = [2000, 10_000];

/** How many times in a row urgent work may pass before background work that waits. */
const maxPasses = 8;

/**
 * Limits how much is fetched at a time. What somebody waits for goes before what is fetched ahead, save that the latter gets
 * one slot in so many, so that it comes to its end however much is read.
 */
export class Slots {
  readonly #max: number;
  readonly #waiting: Record<Urgency, (() => void)[]> = { demand: [], background: [] };
  readonly #running: Record<Urgency, number> = { demand: 0, background: 0 };
  #passes = 0;
  #lastDemandAt = Number.NEGATIVE_INFINITY;

  constructor(max: number) {
    this.#max = max;
  }

  /** Waits until nobody has waited for anything for a while, or that takes too long. */
  async quiet(signal: AbortSignal): Promise<void> {
    const giveUpAt = performance.now() + patienceMs;
    for (;;) {
      const now = performance.now();
      const isWanted = this.#running.demand + this.#waiting.demand.length > 0;
      const quietAt = (isWanted ? now : this.#lastDemandAt) + quietMs;
      const pauseMs = Math.min(quietAt, giveUpAt) - now;
      if (pauseMs <= 0 || signal.aborted) {
        return;
      }
      await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** Somebody has waited for something, or is about to. */
  noteWait(): void {
    this.#lastDemandAt = performance.now();
  }

  async run<T>(urgency: Urgency, work: () => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting[urgency].push(resolve);
    this.#admit();
    await promise;
    try {
      return await work();
    } finally {
      this.#running[urgency] -= 1;
      if (urgency === "demand") {
        this.noteWait();
      }
      this.#admit();
    }
  }

  #admit(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const admitted = this.#waiting[next].shift();
      this.#passes = next === "background" || this.#waiting.background.length === 0 ? 0 : this.#passes + 1;
      this.#running[next] += 1;
      admitted?.();
    }
  }

  #next(): Urgency | undefined {
    const { demand, background } = this.#running;
    if (demand + background >= this.#max) {
      return undefined;
    }
    const isBackgroundDue =
      this.#waiting.background.length > 0 &&
      background < Math.min(maxBackground, this.#max) &&
      (this.#passes >= maxPasses || (demand === 0 && this.#waiting.demand.length === 0));
    if (isBackgroundDue) {
      return "background";
    }
    return this.#waiting.demand.length > 0 ? "demand" : undefined;
  }
}
