import { setTimeout as sleep } from "node:timers/promises";
import {
  DataLossError,
  DeadlineExceededError,
  type ServiceError,
  UnavailableError,
} from "@oci-worker/errdefs";
import type { BlobPlace } from "@oci-worker/registry/blob-place";
import { TransientError } from "@oci-worker/registry/errors";
import { cutParts, type PartPlace } from "./cut-parts.ts";
import { Places } from "./places.ts";

/** A stretch of a blob that somebody waits for. Exactly one of its methods is called at last, once. */
export interface WantedPart extends PartPlace {
  /** Whether nobody waits for it any more or yet: then it is not asked for a second time. Absent: somebody does. */
  readonly isExtra?: () => boolean;
  /**
   * May take its time: what comes next is received meanwhile.
   *
   * @throws {DataLossError} if the bytes are wrong: another place is tried then.
   */
  take(bytes: Buffer, host: string): Promise<void> | void;
  fail(error: Error): void;
}

export interface BlobReaderOptions {
  /** Finds out where the blob is: before the first read, and when no place that we know serves it any more. */
  readonly load: () => Promise<readonly BlobPlace[]>;
  /** Where it is, if that is known already. */
  readonly places?: readonly BlobPlace[];
  /** How long is tried without a byte coming. */
  readonly timeoutMs: number;
  /** Told of each failure, also of those that are made good. */
  readonly onFailure?: (error: Error, host: string | undefined) => void;
  readonly now?: () => number;
  /** Waits; tests pass one that does not. */
  readonly delay?: (ms: number, signal: AbortSignal) => Promise<unknown>;
}

/** Waits between rounds, in milliseconds: they double from the first to the last, and differ by up to a fifth. */
const [firstPauseMs, lastPauseMs, jitter] = [100, 5000, 0.2];

/** A host that gives one byte at a time is left after so many times what is waited for the first. */
const maxTimeouts = 5;

/** Whoever waits. */
interface Patience {
  readonly signal: AbortSignal;
  /** When a byte has last come. */
  progressAt: number;
}

/**
 * Reads a blob in parts at whichever place serves it: one after the other, and again after a pause if a failure may pass,
 * until none has given a byte for as long as the caller wants to wait.
 */
export class BlobReader {
  readonly #options: BlobReaderOptions;
  readonly #places: Places;
  readonly #now: () => number;
  #host: string | undefined;
  #known: readonly BlobPlace[] = [];
  #retiredRequests = 0;

  constructor(options: BlobReaderOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#known = options.places ?? [];
    const load = async () => {
      const places = await options.load();
      this.#retiredRequests = this.requests;
      this.#known = places;
      return places;
    };
    this.#places = new Places({ load, ...(options.places && { places: options.places }), now: this.#now });
  }

  /** Which host has served last. */
  get host(): string | undefined {
    return this.#host;
  }

  /** Requests sent so far. */
  get requests(): number {
    return this.#retiredRequests + this.#known.reduce((sum, { requests }) => sum + requests, 0);
  }

  /** Whether a part costs as much as all that is before it, so that many should be read at once. */
  get sendsWhole(): boolean {
    const serving = this.#known.find(({ name }) => name === this.#host);
    return serving?.sendsWhole ?? false;
  }

  /**
   * The last `maxBytes` of the blob, or all, and how many it has.
   *
   * @throws the most telling failure.
   */
  async readTail(maxBytes: number, signal: AbortSignal): Promise<{ tail: Buffer; blobBytes: number }> {
    let result: { tail: Buffer; blobBytes: number } | undefined;
    await this.#tryPlaces(signal, async (place, patience) => {
      result = await place.readTail(maxBytes, patience.signal);
    });
    if (result === undefined) {
      throw new UnavailableError("Cannot read end of blob: no place has given it");
    }
    return result;
  }

  /** Exactly `sizeBytes` from `offset` on. @throws the most telling failure. */
  async read(offset: number, sizeBytes: number, signal: AbortSignal): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    await this.fetch([{ offset, sizeBytes, take: resolve, fail: reject }], signal);
    return await promise;
  }

  /**
   * Reads `parts`, which are in order and do not overlap, in one request; what is between them is fetched too and thrown
   * away. Parts that are wrong or missing are asked for again, elsewhere first. Each part is told what has become of it;
   * nothing is thrown.
   */
  async fetch(parts: readonly WantedPart[], signal: AbortSignal): Promise<void> {
    const pending = new Set(parts);
    const refused = new Map<WantedPart, Set<BlobPlace>>();
    const wrong = new Map<WantedPart, Error>();
    try {
      await this.#tryPlaces(signal, async (place, patience) => {
        const wanted = [...pending].filter((part) => refused.get(part)?.has(place) !== true);
        const refuse = (part: WantedPart, error: unknown) => {
          if (!(error instanceof DataLossError)) {
            // Nothing about the bytes: no other place can help.
            pending.delete(part);
            part.fail(error as Error);
            return;
          }
          wrong.set(part, error);
          refused.set(part, (refused.get(part) ?? new Set()).add(place));
        };
        const failure = await this.#stream(place, wanted, patience, (part, bytes) => {
          try {
            const taking = part.take(bytes, place.name);
            if (taking instanceof Promise) {
              return taking.then(
                () => void pending.delete(part),
                (error: unknown) => refuse(part, error),
              );
            }
            pending.delete(part);
          } catch (error) {
            refuse(part, error);
          }
          return undefined;
        }).then(
          () => undefined,
          (error: unknown) => ({ error }),
        );
        const missing = [...pending].find((part) => part.isExtra?.() !== true);
        if (missing === undefined) {
          for (const extra of pending) {
            pending.delete(extra);
            extra.fail(
              new UnavailableError("Cannot read blob: what was wanted of it ended before this part"),
            );
          }
        } else if (failure !== undefined) {
          throw failure.error;
        } else {
          throw wrong.get(missing) ?? new DataLossError("Cannot read blob: parts of it are wrong everywhere");
        }
      });
    } catch (error) {
      for (const part of pending) {
        part.fail(wrong.get(part) ?? (error as Error));
      }
    }
  }

  async #stream(
    place: BlobPlace,
    parts: readonly WantedPart[],
    patience: Patience,
    take: (part: WantedPart, bytes: Buffer) => Promise<void> | undefined,
  ): Promise<void> {
    const [first, last] = [parts[0], parts.at(-1)];
    if (first === undefined || last === undefined) {
      return;
    }
    const bytes = place.read(first.offset, last.offset + last.sizeBytes - first.offset, patience.signal);
    await cutParts(this.#watched(bytes, patience), parts, take);
  }

  async *#watched(bytes: AsyncIterable<Buffer>, patience: Patience): AsyncGenerator<Buffer, void, undefined> {
    for await (const piece of bytes) {
      patience.progressAt = this.#now();
      yield piece;
    }
  }

  /**
   * Has `attempt` try one place after the other until it throws nothing.
   *
   * @throws the most telling failure when there is no sense in trying on.
   */
  async #tryPlaces(
    signal: AbortSignal,
    attempt: (place: BlobPlace, patience: Patience) => Promise<void>,
  ): Promise<void> {
    const maxMs = this.#options.timeoutMs * maxTimeouts;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(maxMs)]);
    try {
      await this.#tryUntil(limit, attempt);
    } catch (error) {
      signal.throwIfAborted();
      throw limit.aborted
        ? new DeadlineExceededError(`Cannot read blob: what is wanted of it has not come within ${maxMs} ms`)
        : error;
    }
  }

  async #tryUntil(
    limit: AbortSignal,
    attempt: (place: BlobPlace, patience: Patience) => Promise<void>,
  ): Promise<void> {
    const { timeoutMs, delay = (ms, signal) => sleep(ms, undefined, { signal }) } = this.#options;
    const patience: Patience = { signal: limit, progressAt: this.#now() };
    let pauseMs = firstPauseMs;
    for (let wasReloaded = false; ; ) {
      const before = patience.progressAt;
      const { failures, waitMs } = await this.#round(patience, attempt);
      if (failures.length === 0 && waitMs === undefined) {
        return;
      }
      if (failures.some((error) => !isPassing(error)) && !wasReloaded) {
        // Perhaps it is elsewhere now, or somebody has come whose credentials work.
        wasReloaded = this.#places.reload();
        if (wasReloaded) {
          continue;
        }
      }
      if (patience.progressAt !== before) {
        pauseMs = firstPauseMs;
      }
      const nextMs = Math.max(waitMs ?? 0, pauseMs * (1 - jitter + 2 * jitter * Math.random()));
      const leftMs = patience.progressAt + timeoutMs - this.#now();
      if ((waitMs === undefined && !failures.some(isPassing)) || nextMs > leftMs) {
        throw mostTelling(failures);
      }
      await delay(nextMs, limit);
      pauseMs = Math.min(2 * pauseMs, lastPauseMs);
    }
  }

  /** Tries each place once. No failure and no wait: it is done. */
  async #round(
    patience: Patience,
    attempt: (place: BlobPlace, patience: Patience) => Promise<void>,
  ): Promise<{ failures: Error[]; waitMs: number | undefined }> {
    const failures: Error[] = [];
    let waitMs: number | undefined;
    for (const place of await this.#all(failures)) {
      const closedMs = this.#places.closedMs(place);
      if (closedMs > 0) {
        waitMs = Math.min(waitMs ?? closedMs, closedMs);
        continue;
      }
      try {
        await attempt(place, patience);
        this.#places.served(place);
        this.#host = place.name;
        return { failures: [], waitMs: undefined };
      } catch (error) {
        patience.signal.throwIfAborted();
        this.#places.failed(place, error);
        failures.push(this.#noted(error, place.name));
        if (error instanceof TransientError && error.retryAfterMs !== undefined) {
          waitMs = Math.min(waitMs ?? error.retryAfterMs, error.retryAfterMs);
        }
      }
    }
    if (failures.length === 0 && waitMs === undefined) {
      failures.push(new UnavailableError("Cannot read blob: there is no place for it"));
    }
    return { failures, waitMs };
  }

  async #all(failures: Error[]): Promise<readonly BlobPlace[]> {
    try {
      return await this.#places.all();
    } catch (error) {
      failures.push(this.#noted(error, undefined));
      return [];
    }
  }

  #noted(thrown: unknown, host: string | undefined): Error {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    this.#options.onFailure?.(error, host);
    return error;
  }
}

/** A host that cannot be reached may be started again: whoever reads cannot go elsewhere, unlike one who pulls. */
function isPassing(error: Error): boolean {
  return error instanceof UnavailableError;
}

/** A mirror that lacks something says less than a host that refuses it. */
function mostTelling(failures: readonly Error[]): Error {
  const isNotFound = (error: Error) => (error as Partial<ServiceError>).reason === "NOT_FOUND";
  return (
    failures.find((error) => !isNotFound(error)) ??
    failures[0] ??
    new UnavailableError("Cannot read blob: every place asks us to wait longer than anybody wants to")
  );
}
