import type { CacheRecord } from "@oci-worker/client/cache";
import { formatAge } from "../output/age.ts";
import { printable, shortName } from "../output/printable.ts";
import { table } from "../output/table.ts";
import { formatBytes } from "../progress/units.ts";

/** The flag of commands about the cache, in containerd's filter language, which the daemon reads. */
export const recordFilterFlag = {
  value: "FILTER",
  multiple: true,
  help: "only those that match, such as type==exec.cachemount or description~=apt; of several flags, any",
} as const;

/** Nanoseconds in a millisecond. */
const nsPerMs = 1_000_000n;

/** Records as a table, and what they take up together. */
export function recordTable(records: readonly CacheRecord[], verbose: boolean, nowMs: number): string {
  const nameOf = verbose ? printable : shortName;
  const headings = ["ID", "TYPE", "SIZE", "USED", "LAST USED", "STATE", ...(verbose ? ["DESCRIPTION"] : [])];
  const rows = records.map((record) => [
    [`${nameOf(record.id)}${record.mutable ? "*" : ""}`],
    [printable(record.type)],
    [`${formatBytes(record.sizeBytes)}${record.shared ? "*" : ""}`],
    [`${record.useCount}x`],
    [record.usedAt === undefined ? "never" : formatAge(BigInt(record.usedAt.getTime()) * nsPerMs, nowMs)],
    [record.inUse ? "in use" : "reclaimable"],
    ...(verbose ? [[printable(record.description)]] : []),
  ]);
  return table(headings, rows);
}

/** `records` as other programs read them. */
export function describeRecord(record: CacheRecord) {
  const { createdAt, usedAt, ...others } = record;
  return { ...others, createdAt: createdAt.toISOString(), usedAt: usedAt?.toISOString() };
}

export function totalBytes(records: readonly CacheRecord[]): number {
  return records.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
