/** How many deaths of a thread are taken for chance, and what is done about more. Times in milliseconds. */
export interface DeathRule {
  /** So many within `windowMs` are too many. */
  readonly tooMany: number;
  readonly windowMs: number;
  /** For so long nothing is given then. */
  readonly refusalMs: number;
}

/**
 * Whoever waits notices nothing of four threads, which take some hundred milliseconds to start. What kills five is no chance,
 * and may be over when the machine is less busy, or that what they were asked for is refused.
 */
export const defaultDeathRule: DeathRule = { tooMany: 5, windowMs: 60_000, refusalMs: 30_000 };

/** Counts how often threads with one task have died, so that they are not started for ever. */
export class Deaths {
  readonly #rule: DeathRule;
  #times: number[] = [];

  constructor(rule: DeathRule) {
    this.#rule = rule;
  }

  /** Notes one. @returns until when nothing is to be given; undefined if the next thread may do its task at once. */
  note(nowMs: number): number | undefined {
    const { tooMany, windowMs, refusalMs } = this.#rule;
    this.#times = [...this.#times.filter((each) => nowMs - each < windowMs), nowMs];
    return this.#times.length < tooMany ? undefined : nowMs + refusalMs;
  }
}
