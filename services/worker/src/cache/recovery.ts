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
 * @param isResult whether cache keys lead to a snapshot.
 * @param pages all snapshots. Of those whose record is right, thousands mostly, nothing but the name is kept.
 */
export async function reconcile(
  records: CacheRecords,
  isResult: (name: string) => boolean,
  pages: AsyncIterable<readonly Info[]>,
): Promise<Comparison> {
  const right = new Set<string>();
  const others = new Map<string, Info>();
  for await (const page of pages) {
    for (const info of page) {
      if (records.kindOf(info.name) === info.kind) {
        right.add(info.name);
      } else {
        others.set(info.name, info);
      }
    }
  }
  const wrong = [...records.ids()].filter((id) => !right.has(id));
  for (const id of wrong) {
    records.forget(id);
  }
  let restored = 0;
  const keep = (info: Info): void => {
    const { name, parent } = info;
    if (records.has(name)) {
      return;
    }
    const beneath = parent === undefined ? undefined : others.get(parent);
    if (beneath !== undefined) {
      keep(beneath);
    }
    records.restore(
      {
        id: name,
        parents: parent !== undefined && records.has(parent) ? [parent] : [],
        type: "regular",
        description: isDigest(name) ? "layer of an image" : "result of an earlier step",
        mutable: false,
        blobs: [],
      },
      Number(info.createdAtNs / 1_000_000n),
    );
    restored += 1;
  };
  for (const info of others.values()) {
    if (info.kind === "committed" && (isDigest(info.name) || isResult(info.name))) {
      keep(info);
    }
  }
  const leftovers = [...others.keys()].filter((name) => !records.has(name));
  return { leftovers, restored, forgotten: wrong.length };
}
