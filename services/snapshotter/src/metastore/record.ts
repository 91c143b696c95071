import type { SQLOutputValue } from "node:sqlite";
import type { Info, Kind, Usage } from "@oci-worker/snapshots/snapshotter";

/** A snapshot as it is stored. */
export interface SnapshotRecord extends Info {
  /** Names its directory; never given to another snapshot. */
  readonly id: number;
  readonly parentID: number | undefined;
  /** Measured at commit; undefined for a snapshot of any other kind. */
  readonly usage: Usage | undefined;
}

/** The columns that {@link recordOf} reads, in its order. */
export const recordColumns = `
  snapshot.id, snapshot.name, snapshot.parent_id, parent.name, snapshot.kind, snapshot.labels,
  snapshot.created_ns, snapshot.updated_ns, snapshot.size_bytes, snapshot.inodes`;

/** Snapshots, and in `parent` the one beneath if there is one. */
export const recordTables =
  "snapshots AS snapshot LEFT JOIN snapshots AS parent ON parent.id = snapshot.parent_id";

/** Makes a record of a row that was read as an array, its integers as bigints. */
export function recordOf(row: readonly SQLOutputValue[]): SnapshotRecord {
  const [id, name, parentID, parent, kind, labels, created, updated, sizeBytes, inodes] = row;
  return {
    id: Number(id),
    name: String(name),
    parentID: parentID === null ? undefined : Number(parentID),
    parent: parent === null ? undefined : String(parent),
    kind: kind as Kind,
    labels: JSON.parse(String(labels)) as Record<string, string>,
    createdAtNs: created as bigint,
    updatedAtNs: updated as bigint,
    usage: kind === "committed" ? { sizeBytes: sizeBytes as bigint, inodes: inodes as bigint } : undefined,
  };
}

/** Length of all texts of `record` together: nearly all of its size in memory. */
export function textChars({ name, parent = "", labels }: SnapshotRecord): number {
  let chars = name.length + parent.length;
  for (const [key, value] of Object.entries(labels)) {
    chars += key.length + value.length;
  }
  return chars;
}
