/**
 * Runs something at most once in a while, however often it is asked for: at once if the last run was long enough ago, else
 * when it will have been. What is asked for during a run gets a run of its own afterwards.
 */
export class Throttle implements Disposable {
  readonly #intervalMs: number;
  readonly #run: () => Promise<boolean>;
  #lastEndMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isRunning = false;
  #isAskedFor = false;
  #isEnded = false;

  /** @param run must not fail; says whether it had anything to do, for otherwise it does not count. */
  constructor(intervalMs: number, run: () => Promise<boolean>) {
    this.#intervalMs = intervalMs;
    this.#run = run;
  }

  /** @param delayMs what is asked for need not begin sooner. */
  request(delayMs: number): void {
    if (this.#isEnded || this.#timer !== undefined) {
      return;
    }
    if (this.#isRunning) {
      this.#isAskedFor = true;
      return;
    }
    const waitMs = Math.max(delayMs, this.#lastEndMs + this.#intervalMs - Date.now());
    this.#timer = setTimeout(() => void this.#start(), waitMs).unref();
  }

  [Symbol.dispose](): void {
    this.#isEnded = true;
    clearTimeout(this.#timer);
  }

  async #start(): Promise<void> {
    this.#timer = undefined;
    this.#isRunning = true;
    this.#isAskedFor = false;
    const counts = await this.#run();
    this.#isRunning = false;
    if (counts) {
      this.#lastEndMs = Date.now();
    }
    if (this.#isAskedFor) {
      this.request(0);
    }
  }
}
