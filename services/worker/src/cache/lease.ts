import type { Digest } from "@oci-worker/oci/digest";

/** What a lease asks of the records. */
export interface Holdable {
  /**
   * Keeps the record `id` until what is returned is disposed of; undefined if there is no such record, or none any more
   * once its removal has ended.
   */
  hold(id: string): Promise<Disposable | undefined>;
  holdBlob(digest: Digest): void;
  releaseBlob(digest: Digest): void;
}

/**
 * Keeps records, and everything that they stand on, from being removed until it is disposed of; blobs of the content
 * store likewise.
 *
 * It lives in memory: what a process that was killed has held, nobody uses any more.
 */
export class Lease implements Disposable {
  readonly #records: Holdable;
  readonly #held = new Map<string, Disposable>();
  readonly #blobs = new Set<Digest>();
  #isEnded = false;

  constructor(records: Holdable) {
    this.#records = records;
  }

  /** Holds the record `id`. @returns false if there is none. */
  async hold(id: string): Promise<boolean> {
    if (this.#held.has(id)) {
      return true;
    }
    const hold = await this.#records.hold(id);
    if (hold !== undefined) {
      this.adopt(id, hold);
    }
    return hold !== undefined;
  }

  /** Holds a record with the hold that its maker has on it. */
  adopt(id: string, hold: Disposable): void {
    if (this.#isEnded || this.#held.has(id)) {
      hold[Symbol.dispose]();
    } else {
      this.#held.set(id, hold);
    }
  }

  /** Keeps a blob, whether it is there already or not. */
  holdBlob(digest: Digest): void {
    if (!this.#isEnded && !this.#blobs.has(digest)) {
      this.#blobs.add(digest);
      this.#records.holdBlob(digest);
    }
  }

  [Symbol.dispose](): void {
    this.#isEnded = true;
    for (const hold of this.#held.values()) {
      hold[Symbol.dispose]();
    }
    for (const digest of this.#blobs) {
      this.#records.releaseBlob(digest);
    }
    this.#held.clear();
    this.#blobs.clear();
  }
}
