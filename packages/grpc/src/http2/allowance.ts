/**
 * How often a peer may do what costs it little: so many times at once, and a number of times a second from then on.
 */
export class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #refilledAt = performance.now();

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  /** @returns false if the peer has done it too often. */
  spend(): boolean {
    if (this.#left < 1) {
      const now = performance.now();
      const refill = ((now - this.#refilledAt) / 1000) * this.#perSecond;
      this.#left = Math.min(this.#burst, this.#left + refill);
      this.#refilledAt = now;
    }
    this.#left -= 1;
    return this.#left >= 0;
  }

  /** Allows it so many times more, for something that shows the peer to be at work. It may keep them. */
  earn(times: number): void {
    this.#left += times;
  }
}
