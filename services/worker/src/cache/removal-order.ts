import type { StoredRecord } from "./record.ts";

/**
 * Sorts records by how little they would be missed, the least first: by how long ago they were used and how often, each
 * counted in ranks.
 *
 * Ranks begin at 1. Upstream's begin at 0, so that where no record was ever used it divides zero by zero, and the order is
 * whatever it happens to be (BuildKit v0.11, cache/manager.go). Equal ones go by age and then by id.
 */
export function byLeastMissed<T extends StoredRecord>(records: readonly T[]): T[] {
  const usedRank = ranks(records.map(({ usedAtMs }) => usedAtMs ?? 0));
  const countRank = ranks(records.map(({ useCount }) => useCount));
  const score = ({ usedAtMs, useCount }: T) => usedRank(usedAtMs ?? 0) + countRank(useCount);
  return records.toSorted(
    (a, b) =>
      score(a) - score(b) || a.createdAtMs - b.createdAtMs || (a.id < b.id ? -1 : Number(a.id > b.id)),
  );
}

/** The rank of a value among `values`, as a share of the highest rank: above 0 and at most 1. */
function ranks(values: readonly number[]): (value: number) => number {
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  const rankOf = new Map(distinct.map((value, index) => [value, (index + 1) / distinct.length]));
  return (value) => rankOf.get(value) ?? 1;
}
