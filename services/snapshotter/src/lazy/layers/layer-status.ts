import type { BackgroundState } from "../data/background-fetch.ts";

/** Something that went wrong. */
export interface LayerFailure {
  readonly atMs: number;
  readonly message: string;
  /** Which host it was about. */
  readonly host?: string;
}

/** How a lazy layer is doing. Sizes are of files as they are unpacked, unless they say otherwise. */
export interface LayerStatus {
  readonly number: number;
  readonly digest: string;
  readonly tocDigest: string;
  /** The image that it was first read from. */
  readonly reference: string;
  /** Of all chunks: what is equal is counted once. */
  readonly contentBytes: number;
  /** Of those that are there and checked. */
  readonly verifiedBytes: number;
  /** What it takes of the cache. */
  readonly cachedBytes: number;
  /** Of the blob, compressed. */
  readonly blobBytes: number;
  /** Compressed, from registries, by this process. */
  readonly fetchedBytes: number;
  /** To registries, by this process. */
  readonly requests: number;
  /** Which one has served last. */
  readonly host: string | undefined;
  readonly isComplete: boolean;
  /** Its file is mounted as it is. */
  readonly isDevice: boolean;
  /** What is fetched beside that which somebody waits for. */
  readonly activity: "none" | "prefetch" | "background";
  readonly background: BackgroundState;
  /** Why something of it could not be read last, until something could again. */
  readonly failure: LayerFailure | undefined;
  readonly failureCount: number;
  /** The last ones, the latest first. */
  readonly failures: readonly LayerFailure[];
}

/** Failures that are kept of a layer. */
const maxFailures = 10;

/** What went wrong with a layer lately. */
export class FailureLog {
  count = 0;
  readonly #failures: LayerFailure[] = [];
  #isResolved = true;
  readonly #seen = new WeakSet<Error>();

  /** A failure that comes this way twice, from where it was and from where somebody waited, is told once. */
  add(error: Error, host?: string): void {
    if (this.#seen.has(error)) {
      return;
    }
    this.#seen.add(error);
    this.#isResolved = false;
    this.count += 1;
    this.#failures.unshift({ atMs: Date.now(), message: error.message, ...(host !== undefined && { host }) });
    this.#failures.length = Math.min(this.#failures.length, maxFailures);
  }

  /** Something could be read. */
  resolve(): void {
    this.#isResolved = true;
  }

  /** The last one, if nothing has gone well since. */
  get unresolved(): LayerFailure | undefined {
    return this.#isResolved ? undefined : this.#failures[0];
  }

  get latest(): readonly LayerFailure[] {
    return [...this.#failures];
  }
}
