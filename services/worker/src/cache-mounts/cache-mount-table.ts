import type { DatabaseSync, StatementSync } from "node:sqlite";

/** Which records are the cache mounts of steps. A row goes with its record. */
export class CacheMountTable {
  readonly #insert: StatementSync;
  readonly #forget: StatementSync;
  readonly #selectKey: StatementSync;

  constructor(database: DatabaseSync) {
    this.#insert = database.prepare("INSERT INTO cache_mounts (record, id, key) VALUES (?, ?, ?)");
    this.#forget = database.prepare("UPDATE cache_mounts SET key = NULL WHERE id = ?");
    this.#selectKey = database.prepare(
      `SELECT record FROM cache_mounts JOIN records ON records.id = record
       WHERE key = ? ORDER BY created_at_ms, record`,
    );
  }

  /** The snapshots that may be given to who asks for `key`, the oldest first. */
  withKey(key: string): string[] {
    return this.#selectKey.all(key).map((row) => String(row["record"]));
  }

  /**
   * @param id what steps call it; {@link forget} goes by that, whatever its base is.
   * @param key whoever asks for the same may be given it.
   */
  add(snapshot: string, id: string, key: string): void {
    this.#insert.run(snapshot, id, key);
  }

  /** Nobody is to be given the cache mounts `id` that there are. */
  forget(id: string): void {
    this.#forget.run(id);
  }
}
