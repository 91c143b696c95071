import { isDigest } from "@oci-worker/oci/digest";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import type { CacheRecords } from "./records.ts";

/** What the snapshotter holds at the start, held against the records. */
export interface Comparison {
  /** Snapshots that nothing needs: worked on by a process that is gone, or made by it and never noted. */
  readonly leftovers: readonly string[];
  /** How many records have been made for snapshots that can be of use. */
  readonly restored: number;
  /** How many records had no snapshot any more. */
  readonly forgotten: number;
}

/**
 * Makes records and snapshots agree after a start, whatever the process before was doing when it was killed.
 *
 * An image layer that was committed a moment before its record was written is as good as any, and is kept: its name says
 * what it is. A result of a step that no cache key leads to is not.
 *
 * @param results snapshots that cache keys lead to.
 */
export function reconcile(
  records: CacheRecords,
  results: ReadonlySet<string>,
  snapshots: ReadonlyMap<string, Info>,
): Comparison {
  let forgotten = 0;
  for (const { id, mutable } of records.list()) {
    const kind = snapshots.get(id)?.kind;
    if (kind !== (mutable ? "active" : "committed")) {
      records.forget(id);
      forgotten += 1;
    }
  }
  let restored = 0;
  const keep = (info: Info): void => {
    if (records.has(info.name)) {
      return;
    }
    const parent = info.parent === undefined ? undefined : snapshots.get(info.parent);
    if (parent !== undefined) {
      keep(parent);
    }
    records.restore(
      {
        id: info.name,
        parents: parent === undefined ? [] : [parent.name],
        type: "regular",
        description: isDigest(info.name) ? "layer of an image" : "result of an earlier step",
        mutable: false,
        blobs: [],
      },
      Number(info.createdAtNs / 1_000_000n),
    );
    restored += 1;
  };
  for (const info of snapshots.values()) {
    if (info.kind === "committed" && (isDigest(info.name) || results.has(info.name))) {
      keep(info);
    }
  }
  const leftovers = [...snapshots.keys()].filter((name) => !records.has(name));
  return { leftovers, restored, forgotten };
}
