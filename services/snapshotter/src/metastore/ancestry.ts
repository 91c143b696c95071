import type { DatabaseSync, StatementSync } from "node:sqlite";
import { BoundedMap } from "./bounded-map.ts";

/** So many chains are kept; an image has one for each of its layers. */
const maxChains = 4096;

/**
 * What lies beneath a snapshot, down to the last layer.
 *
 * Answers are kept: a committed snapshot never gets another parent, and ids are never given out again.
 */
export class Ancestry {
  readonly #chain: StatementSync;
  readonly #known = new BoundedMap<number, readonly number[]>(maxChains);

  constructor(database: DatabaseSync) {
    this.#chain = database.prepare(`
      WITH RECURSIVE chain (id, parent_id, depth) AS (
        SELECT id, parent_id, 0 FROM snapshots WHERE id = ?
        UNION ALL
        SELECT beneath.id, beneath.parent_id, depth + 1
        FROM chain JOIN snapshots AS beneath ON beneath.id = chain.parent_id
      )
      SELECT id FROM chain ORDER BY depth`);
  }

  /** The committed snapshot `id` and everything beneath it, the nearest first; nothing if there is none. */
  from(id: number | undefined): readonly number[] {
    if (id === undefined) {
      return [];
    }
    const known = this.#known.get(id);
    if (known !== undefined) {
      return known;
    }
    const chain = this.#chain.all(id).map((row) => Number(row["id"]));
    this.#known.set(id, chain);
    return chain;
  }
}
