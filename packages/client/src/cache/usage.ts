import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { PruneRequestSchema, UsageRecord } from "@oci-worker/api/buildkit/control";

/** One thing that takes up space in a daemon's cache. */
export interface CacheRecord {
  readonly id: string;
  /** What it stands on. */
  readonly parents: readonly string[];
  /** "regular", "internal", "frontend", "source.local", "source.git.checkout" or "exec.cachemount". */
  readonly type: string;
  /** For people: what it was made for. */
  readonly description: string;
  /** Bytes, its parents left out. */
  readonly sizeBytes: number;
  /** It goes on changing, as cache mounts and local sources do. */
  readonly mutable: boolean;
  /** Something holds it, so that it cannot be removed. */
  readonly inUse: boolean;
  /** Others than this cache hold it, too, so that removing it frees nothing. */
  readonly shared: boolean;
  readonly createdAt: Date;
  /** Undefined if it has never been used. */
  readonly usedAt: Date | undefined;
  readonly useCount: number;
}

export interface DiskUsageOptions {
  /**
   * Expressions over `id`, `parents`, `description` and `type`, and the flags `inuse`, `mutable`, `immutable`, `shared`
   * and `private`; a record is given if one of them matches.
   */
  readonly filters?: readonly string[];
  readonly signal?: AbortSignal;
}

export interface PruneOptions extends DiskUsageOptions {
  /** Whether to cover also records that are internal, belong to a frontend or are shared. */
  readonly all?: boolean;
  /** What was used within so many milliseconds stays. */
  readonly keepDurationMs?: number;
  /** Bytes that are never removed; without the next two the most that is kept. */
  readonly reservedBytes?: number;
  /** Bytes beyond which records are removed. Daemons from v0.17 on. */
  readonly maxUsedBytes?: number;
  /** Bytes of the disk to leave free, down to the reserved ones if it must be. Daemons from v0.17 on. */
  readonly minFreeBytes?: number;
}

export function pruneRequest(options: PruneOptions): MessageInitShape<typeof PruneRequestSchema> {
  return {
    filter: [...(options.filters ?? [])],
    all: options.all ?? false,
    keepDuration: BigInt(Math.round(options.keepDurationMs ?? 0)) * 1_000_000n,
    reservedSpace: BigInt(options.reservedBytes ?? 0),
    maxUsedSpace: BigInt(options.maxUsedBytes ?? 0),
    minFreeSpace: BigInt(options.minFreeBytes ?? 0),
  };
}

export function cacheRecordOf(record: UsageRecord): CacheRecord {
  const dateOf = (time: Timestamp | undefined) => (time === undefined ? undefined : timestampDate(time));
  return {
    id: record.ID,
    // Daemons before v0.11 know one parent at most.
    parents: record.Parents.length > 0 || record.Parent === "" ? record.Parents : [record.Parent],
    type: record.RecordType,
    description: record.Description,
    sizeBytes: Number(record.Size),
    mutable: record.Mutable,
    inUse: record.InUse,
    shared: record.Shared,
    createdAt: dateOf(record.CreatedAt) ?? new Date(0),
    usedAt: dateOf(record.LastUsedAt),
    useCount: Number(record.UsageCount),
  };
}
