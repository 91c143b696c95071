import { AbortedError, NotFoundError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import { BlobUses } from "./blob-uses.ts";
import { type Holdable, Lease } from "./lease.ts";
import type { CacheRecord, NewRecord, StoredRecord } from "./record.ts";
import type { RecordTable } from "./record-table.ts";

/** Counts of uses are written so long after they change: losing the last ones only makes the next choice a little worse. */
const flushDelayMs = 1000;

interface Entry {
  stored: StoredRecord;
  /** Leases that hold it, and steps that write to it. */
  holds: number;
  /** Records that stand on it. */
  children: number;
  /** It is being removed: nobody gets it any more until that has failed. */
  removal: Promise<void> | undefined;
  /** A snapshot that is worked on: known here alone, gone when the work ends. */
  readonly isWork: boolean;
}

/**
 * Every snapshot that the worker keeps: what it is, what stands on what, and who holds it.
 *
 * All of it is in memory, and what has to survive also on disk. A record goes only when nothing holds it and nothing
 * stands on it.
 */
export class CacheRecords implements Holdable, Disposable {
  readonly #table: RecordTable;
  readonly #entries = new Map<string, Entry>();
  /** Children of records that have not been entered yet: rows on disk come in no order. */
  readonly #childrenBefore = new Map<string, number>();
  readonly #blobs = new BlobUses();
  readonly #changed = new Set<string>();
  readonly #onUnwritten: (error: unknown) => void;
  #flushing: NodeJS.Timeout | undefined;

  /** @param onUnwritten told when counts of uses cannot be written, for want of room for example. It is tried again. */
  constructor(table: RecordTable, onUnwritten: (error: unknown) => void) {
    this.#table = table;
    this.#onUnwritten = onUnwritten;
    for (const stored of table.all()) {
      this.#enter(stored, false);
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#flushing);
    this.#flush();
  }

  lease(): Lease {
    return new Lease(this);
  }

  get isEmpty(): boolean {
    return this.#entries.size === 0;
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  ids(): Iterable<string> {
    return this.#entries.keys();
  }

  /** Of which kind the snapshot `id` has to be; undefined if it has no record. */
  kindOf(id: string): "active" | "committed" | undefined {
    const entry = this.#entries.get(id);
    return entry === undefined ? undefined : entry.stored.mutable ? "active" : "committed";
  }

  /** Every record, in the order in which they were made, those included that are worked on. */
  list(): CacheRecord[] {
    const used = new Set<string>();
    for (const [id, { holds }] of this.#entries) {
      if (holds > 0) {
        this.#collectWithAncestors(id, used);
      }
    }
    return [...this.#entries].map(([id, { stored }]) => ({ ...stored, inUse: used.has(id) }));
  }

  /**
   * The record `id` and those that it stands on, from the lowest upwards.
   *
   * @throws {NotFoundError} if there is no such record.
   */
  lineage(id: string): StoredRecord[] {
    const lineage: StoredRecord[] = [];
    for (let next: string | undefined = id; next !== undefined; ) {
      const { stored }: Entry = this.#entry(next);
      lineage.unshift(stored);
      next = stored.parents[0];
    }
    return lineage;
  }

  /** The record `id` if it may be removed now: nothing holds it, and nothing stands on it. */
  removable(id: string): StoredRecord | undefined {
    const entry = this.#entries.get(id);
    return entry !== undefined && isRemovable(entry) ? entry.stored : undefined;
  }

  /**
   * Keeps a snapshot from now on, held by `lease` from the first moment.
   *
   * One that is known is held as it is, with the blobs of both.
   *
   * @throws {NotFoundError} if a parent has no record.
   * @throws {AbortedError} if it is being removed.
   */
  add(record: NewRecord, lease: Lease): void {
    const known = this.#entries.get(record.id);
    if (known?.removal !== undefined) {
      throw new AbortedError(`Cannot keep ${record.id}: it is being removed`);
    }
    if (known === undefined) {
      this.restore(record, Date.now());
    } else {
      this.addBlobs(record.id, record.blobs);
    }
    lease.adopt(record.id, this.#hold(this.#entry(record.id)));
  }

  /** Keeps a snapshot that an earlier process has left without a record. Nothing holds it. */
  restore(record: NewRecord, createdAtMs: number): void {
    this.#requireParents(record);
    const stored = { ...record, createdAtMs, sizeBytes: undefined, usedAtMs: undefined, useCount: 0 };
    this.#table.add(stored);
    this.#enter(stored, false);
  }

  /**
   * A snapshot that is worked on. It keeps its parents, and is shown among the records, until that is disposed of.
   *
   * @throws {NotFoundError} if a parent has no record.
   */
  begin(record: NewRecord): Disposable {
    this.#requireParents(record);
    const counts = { createdAtMs: Date.now(), sizeBytes: 0, usedAtMs: undefined, useCount: 0 };
    const entry = this.#enter({ ...record, ...counts }, true);
    entry.holds += 1;
    return {
      [Symbol.dispose]: () => {
        if (this.#entries.get(record.id) === entry) {
          this.#leave(record.id);
        }
      },
    };
  }

  /** Has `digests` go with the record `id`. */
  addBlobs(id: string, digests: readonly Digest[]): void {
    const entry = this.#entry(id);
    const added = digests.filter((digest) => !entry.stored.blobs.includes(digest));
    if (added.length === 0) {
      return;
    }
    this.#table.addBlobs(id, added);
    this.#blobs.add(added);
    entry.stored = { ...entry.stored, blobs: [...entry.stored.blobs, ...added], sizeBytes: undefined };
    this.#change(id);
  }

  async hold(id: string): Promise<Disposable | undefined> {
    // A removal that fails leaves the record as it was.
    await this.#entries.get(id)?.removal?.catch(() => undefined);
    const entry = this.#entries.get(id);
    return entry === undefined || entry.removal !== undefined ? undefined : this.#hold(entry);
  }

  holdBlob(digest: Digest): void {
    this.#blobs.add([digest]);
  }

  releaseBlob(digest: Digest): void {
    this.#blobs.remove([digest]);
  }

  /** Whether a record or a lease needs the blob. */
  needsBlob(digest: Digest): boolean {
    return this.#blobs.has(digest);
  }

  /** How many bytes `id` takes up has been found out. Of one that changes it is true only while nobody uses it. */
  setSize(id: string, sizeBytes: number): void {
    const entry = this.#entries.get(id);
    if (entry !== undefined && !(entry.stored.mutable && entry.holds > 0)) {
      entry.stored = { ...entry.stored, sizeBytes };
      this.#change(id);
    }
  }

  /**
   * Removes a record for which nothing speaks, when `removeSnapshot` has done its part. If that fails the record stays.
   *
   * A process that is killed in between leaves a record without a snapshot, which the next one forgets.
   *
   * @returns the blobs that nobody needs any more; undefined if it has come to be needed meanwhile.
   */
  async remove(id: string, removeSnapshot: () => Promise<void>): Promise<readonly Digest[] | undefined> {
    const entry = this.#entries.get(id);
    if (entry === undefined || !isRemovable(entry)) {
      return undefined;
    }
    entry.removal = removeSnapshot();
    try {
      await entry.removal;
    } catch (error) {
      entry.removal = undefined;
      throw error;
    }
    this.forget(id);
    return entry.stored.blobs.filter((digest) => !this.needsBlob(digest));
  }

  /** Drops the record of a snapshot that is not there any more, and the results that it was part of. */
  forget(id: string): void {
    if (this.#entries.has(id)) {
      this.#table.remove(id);
      this.#leave(id);
    }
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry === undefined) {
      throw new NotFoundError(`Cannot use snapshot ${id}: it is not in the cache`);
    }
    return entry;
  }

  /** By the entry and not by its id: another may come to have that, after this one has been forgotten. */
  #hold(entry: Entry): Disposable {
    entry.holds += 1;
    return {
      [Symbol.dispose]: () => {
        entry.holds -= 1;
        if (entry.holds === 0 && this.#entries.get(entry.stored.id) === entry) {
          this.#noteUse(entry);
        }
      },
    };
  }

  #requireParents({ id, parents }: NewRecord): void {
    for (const parent of parents) {
      const entry = this.#entries.get(parent);
      if (entry === undefined || entry.removal !== undefined) {
        throw new NotFoundError(`Cannot build ${id} on snapshot ${parent}: it is not in the cache any more`);
      }
    }
  }

  #enter(stored: StoredRecord, isWork: boolean): Entry {
    const early = this.#childrenBefore.get(stored.id) ?? 0;
    this.#childrenBefore.delete(stored.id);
    const entry = { stored, holds: 0, children: early, removal: undefined, isWork };
    this.#entries.set(stored.id, entry);
    this.#blobs.add(stored.blobs);
    for (const parent of stored.parents) {
      const above = this.#entries.get(parent);
      if (above === undefined) {
        this.#childrenBefore.set(parent, (this.#childrenBefore.get(parent) ?? 0) + 1);
      } else {
        above.children += 1;
      }
    }
    return entry;
  }

  #leave(id: string): void {
    const { stored } = this.#entry(id);
    this.#entries.delete(id);
    this.#changed.delete(id);
    this.#blobs.remove(stored.blobs);
    for (const parent of stored.parents) {
      const entry = this.#entries.get(parent);
      if (entry !== undefined) {
        entry.children -= 1;
      }
    }
  }

  /** It has been used until now, and with it what it stands on. What it holds may have changed if it can. */
  #noteUse({ stored, isWork }: Entry): void {
    if (isWork) {
      return;
    }
    const usedAtMs = Date.now();
    const used = new Set<string>();
    this.#collectWithAncestors(stored.id, used);
    for (const id of used) {
      const entry = this.#entry(id);
      const isItself = id === stored.id;
      entry.stored = {
        ...entry.stored,
        usedAtMs,
        useCount: entry.stored.useCount + (isItself ? 1 : 0),
        sizeBytes: isItself && stored.mutable ? undefined : entry.stored.sizeBytes,
      };
      this.#change(id);
    }
  }

  #collectWithAncestors(id: string, into: Set<string>): void {
    const waiting = [id];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const entry = this.#entries.get(next);
      if (entry !== undefined && !into.has(next)) {
        into.add(next);
        waiting.push(...entry.stored.parents);
      }
    }
  }

  #change(id: string): void {
    this.#changed.add(id);
    this.#flushSoon();
  }

  #flushSoon(): void {
    this.#flushing ??= setTimeout(() => {
      this.#flushing = undefined;
      if (!this.#flush()) {
        this.#flushSoon();
      }
    }, flushDelayMs).unref();
  }

  /** @returns whether all is written. */
  #flush(): boolean {
    const changed = [...this.#changed].flatMap((id) => this.#entries.get(id)?.stored ?? []);
    try {
      if (changed.length > 0) {
        this.#table.setCounts(changed);
      }
      this.#changed.clear();
      return true;
    } catch (error) {
      this.#onUnwritten(error);
      return false;
    }
  }
}

function isRemovable({ holds, children, removal }: Entry): boolean {
  return holds === 0 && children === 0 && removal === undefined;
}
