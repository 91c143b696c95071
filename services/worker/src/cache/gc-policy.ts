import type { DiskSpace } from "../config/quantities.ts";

/** One rule of what may be removed, and how much stays. */
export interface GcPolicy {
  /** Whether it covers records that are internal or belong to a frontend, too. */
  readonly all: boolean;
  /** Records that match any of them are covered; all of them if there is none. See `filter.ts`. */
  readonly filters: readonly string[];
  /** What was used within that time stays, in milliseconds; 0 for no such grace. */
  readonly keepDurationMs: number;
  /** In bytes; 0 where there is no such limit. See {@link bytesToKeep}. */
  readonly reservedBytes: number;
  readonly maxUsedBytes: number;
  readonly minFreeBytes: number;
}

/** A rule as an operator gives it. */
export interface PolicySetting {
  readonly all?: boolean;
  readonly filters?: readonly string[];
  /** In milliseconds. */
  readonly keepDuration?: number;
  readonly reservedSpace?: DiskSpace;
  readonly maxUsedSpace?: DiskSpace;
  readonly minFreeSpace?: DiskSpace;
}

/** How much the cache may take up, as an operator says it. */
export interface SpaceSettings {
  readonly reservedSpace?: DiskSpace | undefined;
  readonly maxUsedSpace?: DiskSpace | undefined;
  readonly minFreeSpace?: DiskSpace | undefined;
}

export interface GcSettings extends SpaceSettings {
  /** Whether anything is removed without being asked to. */
  readonly gc: boolean;
  /** `gckeepstorage` of BuildKit before v0.17: the most that is kept. */
  readonly gcKeepStorage?: SpaceSettings | undefined;
  /** In place of the default rules. */
  readonly gcPolicies?: readonly PolicySetting[] | undefined;
}

/** Size of the file system that the cache is on, in bytes; undefined if that cannot be found out. */
export type DiskBytes = number | undefined;

const gigabyte = 1e9;
const gibibyte = 2 ** 30;
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** What can be made again at once: sources and cache mounts go first. One text each, for within one a comma means "and". */
const easilyMadeAgain = ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"];
const easilyMadeAgainBytes = 512e6;
const easilyMadeAgainMs = 2 * dayMs;
const longUnusedMs = 60 * dayMs;

/** For a disk whose size cannot be found out. */
const unknownDiskBytes = 2 * gigabyte;

/** Limits of a disk that nothing is said of: those of BuildKit since v0.17 (cmd/buildkitd/config/gcpolicy.go). */
const defaultSpaces = { reserved: 10, maxUsed: 80, minFree: 20 } as const;
const maxReservedBytes = 10 * gigabyte;
const maxMaxUsedBytes = 100 * gigabyte;

/** The rules that an operator's settings come to, in the order in which they are applied; none if there is to be no GC. */
export function gcPolicies(settings: GcSettings, disk: DiskBytes): GcPolicy[] {
  if (!settings.gc) {
    return [];
  }
  const { gcKeepStorage: former = {}, gcPolicies: rules, ...present } = settings;
  if (rules !== undefined && rules.length > 0) {
    return rules.map((rule) => policyOf(rule, disk));
  }
  const isSaid = (spaces: SpaceSettings) =>
    [spaces.reservedSpace, spaces.maxUsedSpace, spaces.minFreeSpace].some((space) => space !== undefined);
  const onlyKeep = former.maxUsedSpace === undefined && former.minFreeSpace === undefined;
  if (!isSaid(present) && former.reservedSpace !== undefined && onlyKeep) {
    return cappedPolicies(bytesOf(former.reservedSpace, disk) || tenthOf(disk));
  }
  if (!isSaid(present) && !isSaid(former)) {
    return layeredPolicies({
      reservedBytes: Math.min(percentOf(defaultSpaces.reserved, disk), maxReservedBytes),
      maxUsedBytes: Math.min(percentOf(defaultSpaces.maxUsed, disk), maxMaxUsedBytes),
      minFreeBytes: percentOf(defaultSpaces.minFree, disk),
    });
  }
  return layeredPolicies({
    reservedBytes: bytesOf(present.reservedSpace ?? former.reservedSpace, disk),
    maxUsedBytes: bytesOf(present.maxUsedSpace ?? former.maxUsedSpace, disk),
    minFreeBytes: bytesOf(present.minFreeSpace ?? former.minFreeSpace, disk),
  });
}

/** The rules of BuildKit before v0.17: one number, the most that is kept. */
function cappedPolicies(keepBytes: number): GcPolicy[] {
  return [
    rule({
      filters: easilyMadeAgain,
      keepDurationMs: easilyMadeAgainMs,
      reservedBytes: easilyMadeAgainBytes,
    }),
    rule({ keepDurationMs: longUnusedMs, reservedBytes: keepBytes }),
    rule({ reservedBytes: keepBytes }),
    rule({ all: true, reservedBytes: keepBytes }),
  ];
}

/** The rules of BuildKit since v0.17: a floor, a ceiling, and room for others. */
function layeredPolicies(
  spaces: Pick<GcPolicy, "reservedBytes" | "maxUsedBytes" | "minFreeBytes">,
): GcPolicy[] {
  return [
    rule({ filters: easilyMadeAgain, keepDurationMs: easilyMadeAgainMs, maxUsedBytes: easilyMadeAgainBytes }),
    rule({ keepDurationMs: longUnusedMs, ...spaces }),
    rule(spaces),
    rule({ all: true, ...spaces }),
  ];
}

function rule(policy: Partial<GcPolicy>): GcPolicy {
  const limits = { reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 };
  return { all: false, filters: [], keepDurationMs: 0, ...limits, ...policy };
}

function policyOf(setting: PolicySetting, disk: DiskBytes): GcPolicy {
  return rule({
    all: setting.all ?? false,
    filters: setting.filters ?? [],
    keepDurationMs: setting.keepDuration ?? 0,
    reservedBytes: bytesOf(setting.reservedSpace, disk),
    maxUsedBytes: bytesOf(setting.maxUsedSpace, disk),
    minFreeBytes: bytesOf(setting.minFreeSpace, disk),
  });
}

function bytesOf(space: DiskSpace | undefined, disk: DiskBytes): number {
  if (space === undefined) {
    return 0;
  }
  return "bytes" in space ? space.bytes : percentOf(space.percent, disk);
}

/** Upstream's rounding: whole GiB of the share, one more, and each counted as a GB. */
function percentOf(percent: number, disk: DiskBytes): number {
  if (disk === undefined) {
    return unknownDiskBytes;
  }
  return percent === 0 ? 0 : (Math.floor(((disk / 100) * percent) / gibibyte) + 1) * gigabyte;
}

function tenthOf(disk: DiskBytes): number {
  return percentOf(10, disk);
}

/** What a policy leaves in the cache. */
export interface Keeping {
  /** Bytes; 0 removes all that is covered, infinity nothing. */
  readonly bytes: number;
  /** Which limit that comes from, for people. */
  readonly limit: string;
}

/**
 * How many bytes a policy keeps: as much as may be used, less if the disk is too full, but never less than is reserved.
 *
 * `reservedBytes` alone is the most that is kept, as `keepBytes` was before v0.17. A policy without any limit keeps
 * nothing of what it covers.
 *
 * @param usedBytes what the cache takes up now.
 * @param freeBytes what is left of its disk.
 */
export function bytesToKeep(policy: GcPolicy, usedBytes: number, freeBytes: number): Keeping {
  const { reservedBytes, maxUsedBytes, minFreeBytes } = policy;
  if (reservedBytes === 0 && maxUsedBytes === 0 && minFreeBytes === 0) {
    return { bytes: 0, limit: "it keeps nothing that it covers" };
  }
  const missing = minFreeBytes - freeBytes;
  const byMax = { bytes: maxUsedBytes, limit: `at most ${inGB(maxUsedBytes)} may be used` };
  const byFree = {
    bytes: Math.max(0, usedBytes - missing),
    limit: `${inGB(minFreeBytes)} of the disk are to be free, ${inGB(freeBytes)} are`,
  };
  const reserved = { bytes: reservedBytes, limit: `${inGB(reservedBytes)} are kept` };
  const nothing = { bytes: Number.POSITIVE_INFINITY, limit: `${inGB(freeBytes)} of the disk are free` };
  let keeping: Keeping;
  if (missing > 0) {
    keeping = maxUsedBytes > 0 && maxUsedBytes < byFree.bytes ? byMax : byFree;
  } else if (maxUsedBytes > 0) {
    keeping = byMax;
  } else {
    keeping = minFreeBytes > 0 ? nothing : reserved;
  }
  return keeping.bytes < reservedBytes ? reserved : keeping;
}

function inGB(bytes: number): string {
  return `${(bytes / gigabyte).toFixed(2)} GB`;
}
