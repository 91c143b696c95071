import type { Info, Usage } from "@oci-worker/snapshots/snapshotter";

/** A snapshot as the JSON of all these commands has it. */
export function description({ name, parent, kind, createdAtNs, updatedAtNs, labels }: Info): object {
  return {
    name,
    parent: parent ?? null,
    kind,
    createdAt: timeOf(createdAtNs),
    updatedAt: timeOf(updatedAtNs),
    labels: Object.fromEntries(sortedLabels(labels)),
  };
}

/** The same, and what it takes up if that is known. */
export function measured(info: Info, usage: Usage | undefined): object {
  return { ...description(info), ...(usage !== undefined && usageDescription(usage)) };
}

export function usageDescription({ sizeBytes, inodes }: Usage): object {
  return { sizeBytes: Number(sizeBytes), inodes: Number(inodes) };
}

/** RFC 3339, in UTC, with as many digits as there are. */
export function timeOf(ns: bigint): string {
  return new Temporal.Instant(ns).toString();
}

export function sortedLabels(labels: Info["labels"]): [name: string, value: string][] {
  return Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The oldest first, and of the same age in the order of their names. */
export function byAge(one: Info, other: Info): number {
  if (one.createdAtNs !== other.createdAtNs) {
    return one.createdAtNs < other.createdAtNs ? -1 : 1;
  }
  return one.name < other.name ? -1 : 1;
}
