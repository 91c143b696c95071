import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import type { ContentStore } from "../content/store.ts";
import { recordFilter } from "./filter.ts";
import { bytesToKeep, type GcPolicy, type Keeping } from "./gc-policy.ts";
import type { StoredRecord } from "./record.ts";
import type { CacheRecords } from "./records.ts";
import type { Cause, RemovalLog } from "./removal-log.ts";
import { byLeastMissed } from "./removal-order.ts";
import type { CacheUsage, MeasuredRecord } from "./usage.ts";

export interface PrunerParts {
  readonly records: CacheRecords;
  readonly usage: CacheUsage;
  readonly removals: RemovalLog;
  readonly snapshotter: Pick<Snapshotter, "remove">;
  readonly content: Pick<ContentStore, "delete">;
  /** Bytes that are left on the cache's disk. */
  readonly freeBytes: () => Promise<number>;
  readonly log: Logger;
}

/** Removes what policies cover. Several may be at work at the same time: each record is removed once. */
export class Pruner {
  readonly #parts: PrunerParts;

  constructor(parts: PrunerParts) {
    this.#parts = parts;
  }

  /**
   * Applies one policy, and gives each record as it goes.
   *
   * Only what nothing holds and nothing stands on is ever removed, so a stack goes from its top downwards. Where a part
   * is to be kept, the least missed goes first, one at a time, until no more than that is left. What is made meanwhile
   * is left alone.
   *
   * @param cause for the explanation of each removal.
   * @throws {InvalidArgumentError} if a filter cannot be read; nothing has been removed then.
   */
  async *apply(policy: GcPolicy, cause: Cause, signal: AbortSignal): AsyncGenerator<MeasuredRecord, void> {
    const { usage, freeBytes } = this.#parts;
    const isCovered = coverage(policy);
    const limited = policy.reservedBytes > 0 || policy.maxUsedBytes > 0 || policy.minFreeBytes > 0;
    let total = limited ? await usage.total(signal) : 0;
    const keeping = bytesToKeep(policy, total, limited ? await freeBytes() : 0);
    const candidates = new Set(
      byLeastMissed(this.#parts.records.list().filter(isCovered)).map(({ id }) => id),
    );
    const why = reasonOf(policy, keeping);
    for (let found = true; found; ) {
      found = false;
      for (const id of candidates) {
        if (total <= keeping.bytes && keeping.bytes > 0) {
          return;
        }
        signal.throwIfAborted();
        // It may have been used since.
        const record = this.#parts.records.removable(id);
        if (record === undefined || !isCovered(record)) {
          continue;
        }
        candidates.delete(id);
        const removed = await this.#remove(record, { ...cause, why }, signal);
        if (removed !== undefined) {
          found = true;
          total -= removed.sizeBytes;
          yield removed;
          if (keeping.bytes > 0) {
            // What stood beneath it may be missed less than the next.
            break;
          }
        }
      }
    }
  }

  /** @returns undefined if it is needed after all. */
  async #remove(
    record: StoredRecord,
    cause: Cause & { readonly why: string },
    signal: AbortSignal,
  ): Promise<MeasuredRecord | undefined> {
    const { records, usage, removals, snapshotter, content, log } = this.#parts;
    const sizeBytes = await usage.sizeOf(record, signal);
    const removed = { ...record, inUse: false, sizeBytes };
    let blobs: Awaited<ReturnType<CacheRecords["remove"]>>;
    try {
      blobs = await records.remove(record.id, async () => {
        await snapshotter.remove(record.id).catch((error) => {
          if (!(error instanceof NotFoundError)) {
            throw error;
          }
        });
      });
    } catch (error) {
      if (error instanceof FailedPreconditionError) {
        // Somebody else builds on it, although a snapshotter is to have one client.
        log.warn({ snapshot: record.id, error }, "snapshot cannot be removed");
        return undefined;
      }
      throw error;
    }
    if (blobs === undefined) {
      return undefined;
    }
    for (const digest of blobs) {
      // A build may have come to need it while the one before was deleted.
      if (!records.needsBlob(digest)) {
        await content.delete(digest);
      }
    }
    removals.add(removed, cause);
    const { id, type, description } = record;
    log.info({ record: id, type, description, sizeBytes, ...cause }, "cache record removed");
    return removed;
  }
}

/** Which records a policy lets go, as far as it depends on the record alone. */
function coverage(policy: GcPolicy): (record: StoredRecord) => boolean {
  const matches = recordFilter(policy.filters, "prune");
  const cutOffMs = Date.now() - policy.keepDurationMs;
  return (record) =>
    (policy.all || (record.type !== "internal" && record.type !== "frontend")) &&
    (policy.keepDurationMs === 0 || (record.usedAtMs ?? 0) <= cutOffMs) &&
    matches({ ...record, inUse: false });
}

/** Why a policy lets something go, for people. */
function reasonOf(policy: GcPolicy, { limit }: Keeping): string {
  const { filters, keepDurationMs } = policy;
  return [
    ...(filters.length > 0 ? [`it is one of ${filters.join(" or ")}`] : []),
    ...(keepDurationMs > 0 ? [`it was not used for ${keepDurationMs / 3_600_000} h`] : []),
    limit,
  ].join(", ");
}
