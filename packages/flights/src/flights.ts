import { CanceledError } from "@oci-worker/errdefs";

export interface FlightsOptions {
  /** How long a piece of work may take; undefined: for as long as somebody waits for it. */
  readonly timeoutMs?: number;
}

/** One piece of work under way, and how many wait for it. */
interface Flight<T> {
  readonly result: Promise<T>;
  /** Tells that nobody waits any more. Work with a time limit does not hear of it. */
  readonly abandoned: AbortController;
  waiting: number;
}

/**
 * Work that several callers may want at the same time and that is to be done once: the first caller starts it, the
 * others join. What came of it is told to those who wait, and kept nowhere.
 *
 * Work without a time limit is aborted when the last of its callers has gone, not when the first has. Work with one
 * goes on without them until then, so that a caller with little patience finds it further on when it comes again.
 */
export class Flights<T> {
  readonly #timeoutMs: number | undefined;
  readonly #flights = new Map<string, Flight<T>>();

  constructor({ timeoutMs }: FlightsOptions = {}) {
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Does `work`, or waits for the same `key` being worked on already.
   *
   * @param work has to end when the signal that it is given is aborted.
   * @param signal takes back this caller's wish alone.
   * @throws what `work` throws, or the reason of `signal`.
   */
  async join(key: string, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, work);
    flight.waiting += 1;
    const left = Promise.withResolvers<never>();
    const leave = () => left.reject(signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      return await Promise.race([flight.result, left.promise]);
    } finally {
      signal.removeEventListener("abort", leave);
      flight.waiting -= 1;
      if (flight.waiting === 0 && this.#flights.get(key) === flight) {
        flight.abandoned.abort(new CanceledError(`${key} is not wanted any more`));
      }
    }
  }

  #start(key: string, work: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const abandoned = new AbortController();
    const signal = this.#timeoutMs === undefined ? abandoned.signal : AbortSignal.timeout(this.#timeoutMs);
    const flight: Flight<T> = { result: work(signal), abandoned, waiting: 0 };
    this.#flights.set(key, flight);
    const forget = () => {
      signal.removeEventListener("abort", forget);
      if (this.#flights.get(key) === flight) {
        this.#flights.delete(key);
      }
    };
    // A newcomer must not join what is being aborted, however long it takes to end.
    signal.addEventListener("abort", forget);
    // Whoever still waits sees a failure; once nobody does, it concerns nobody.
    flight.result.then(forget, forget);
    return flight;
  }
}
