import { setTimeout as sleep } from "node:timers/promises";
import { TransientError } from "./http/errors.ts";

/** Told before each wait, for whoever watches a pull. */
export interface Retry {
  /** What failed, and why. */
  readonly reason: string;
  /** How long we wait before the next try. */
  readonly delayMs: number;
}

/** Waits. A test may pass one that does not. */
export type Delay = (ms: number, signal: AbortSignal | undefined) => Promise<void>;

/** Waits between tries; BuildKit's numbers (util/resolver/retryhandler). */
const pausesMs: readonly number[] = [1000, 2000, 4000, 8000];

/** Longest wait that a server may ask of us. One that asks for more has no use for us now. */
const maxRetryAfterMs = 60_000;

/** Waits differ by up to this share, so that many clients do not come back at the same time. */
const jitter = 0.2;

export const realDelay: Delay = (ms, signal) => sleep(ms, undefined, { ...(signal && { signal }) });

/** How often something has been tried in vain, and whether it may be tried again. */
export class Retries {
  readonly #delay: Delay;
  readonly #onRetry: ((retry: Retry) => void) | undefined;
  #count = 0;

  constructor(delay: Delay, onRetry: ((retry: Retry) => void) | undefined) {
    this.#delay = delay;
    this.#onRetry = onRetry;
  }

  /** Something went well in between. */
  reset(): void {
    this.#count = 0;
  }

  /**
   * Waits before the next try after `failure`.
   *
   * @returns false at once if there is to be none: it will not pass, or we have tried often enough.
   */
  async wait(failure: unknown, signal: AbortSignal | undefined): Promise<boolean> {
    const pauseMs = pausesMs[this.#count];
    if (!(failure instanceof TransientError) || pauseMs === undefined) {
      return false;
    }
    const { retryAfterMs = 0 } = failure;
    if (retryAfterMs > maxRetryAfterMs) {
      return false;
    }
    this.#count += 1;
    const delayMs = Math.max(retryAfterMs, Math.round(pauseMs * (1 - jitter + 2 * jitter * Math.random())));
    this.#onRetry?.({ reason: failure.message, delayMs });
    await this.#delay(delayMs, signal);
    return true;
  }
}
