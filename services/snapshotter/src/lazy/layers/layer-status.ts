import type { BackgroundState } from "../data/background-fetch.ts";
import type { LayerStatus } from "../lazy-layers.ts";

/** Something that went wrong. */
export interface LayerFailure {
  readonly atMs: number;
  readonly message: string;
  /** Which host it was about. */
  readonly host?: string;
}

/** What is known of a lazy layer beside what is told to everybody. */
export interface DetailedStatus extends LayerStatus {
  /** Of the blob, compressed. */
  readonly blobBytes: number;
  /** To registries, by this process. */
  readonly requests: number;
  /** Its file is mounted as it is. */
  readonly isDevice: boolean;
  readonly background: BackgroundState;
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
