import { NotFoundError } from "@oci-worker/errdefs";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { ContentStore } from "../content/store.ts";
import { recordFilter } from "./filter.ts";
import type { CacheRecord, StoredRecord } from "./record.ts";
import type { CacheRecords } from "./records.ts";

/** Snapshots measured at a time: the snapshotter answers at once for committed ones, and walks active ones. */
const concurrentMeasurements = 8;

export interface UsageParts {
  readonly records: CacheRecords;
  readonly snapshotter: Pick<Snapshotter, "usage">;
  readonly content: Pick<ContentStore, "info">;
}

/** A record whose size is known. */
export type MeasuredRecord = CacheRecord & { readonly sizeBytes: number };

/** What the records of the cache take up. Each is measured once, and a cache mount again after each use. */
export class CacheUsage {
  readonly #parts: UsageParts;

  constructor(parts: UsageParts) {
    this.#parts = parts;
  }

  /**
   * The records that match one of `filters`, with their sizes.
   *
   * @param ageLimitMs leaves out what was used within that time; 0 leaves out nothing.
   * @throws {InvalidArgumentError} if a filter cannot be read.
   */
  async list(filters: readonly string[], ageLimitMs: number, signal: AbortSignal): Promise<MeasuredRecord[]> {
    const matches = recordFilter(filters, "diskusage");
    const cutOffMs = Date.now() - ageLimitMs;
    const isOldEnough = ({ usedAtMs = 0 }: CacheRecord) => ageLimitMs === 0 || usedAtMs <= cutOffMs;
    const records = this.#parts.records.list().filter((record) => matches(record) && isOldEnough(record));
    return await this.#measured(records, signal);
  }

  /** Bytes of all records together. */
  async total(signal: AbortSignal): Promise<number> {
    const records = await this.#measured(this.#parts.records.list(), signal);
    return records.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** Bytes of one record: its snapshot's and its blobs'. What is being changed counts nothing, as it does upstream. */
  async sizeOf(record: StoredRecord & { readonly inUse?: boolean }, signal: AbortSignal): Promise<number> {
    if (record.sizeBytes !== undefined) {
      return record.sizeBytes;
    }
    if (record.mutable && record.inUse === true) {
      return 0;
    }
    const { records, snapshotter, content } = this.#parts;
    try {
      let sizeBytes = Number((await snapshotter.usage(record.id, signal)).sizeBytes);
      for (const digest of record.blobs) {
        sizeBytes += (await content.info(digest))?.sizeBytes ?? 0;
      }
      records.setSize(record.id, sizeBytes);
      return sizeBytes;
    } catch (error) {
      if (error instanceof NotFoundError) {
        return 0;
      }
      throw error;
    }
  }

  async #measured(records: readonly CacheRecord[], signal: AbortSignal): Promise<MeasuredRecord[]> {
    const measured: MeasuredRecord[] = [];
    const left = records.entries();
    const measureNext = async () => {
      for (const [index, record] of left) {
        measured[index] = { ...record, sizeBytes: await this.sizeOf(record, signal) };
      }
    };
    await Promise.all(Array.from({ length: concurrentMeasurements }, measureNext));
    return measured;
  }
}
