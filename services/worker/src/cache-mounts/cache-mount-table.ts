import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";

/** A directory that is kept from step to step. */
export interface CacheMountRecord {
  /** Key of the active snapshot that holds it. */
  readonly snapshot: string;
  /** Whoever asks for the same may be given it; undefined if nobody is to be given it any more. */
  readonly key: string | undefined;
  /** What it held at first, which must be kept as long as it is; undefined for nothing. */
  readonly base: string | undefined;
  /** For people: what it was made for. */
  readonly description: string;
  readonly createdAtMs: number;
  readonly usedAtMs: number;
  readonly useCount: number;
}

/** Of the table below. A file of another version is made anew, and what it spoke of is removed as nobody's. */
const schemaVersion = 1;

/** Which cache mounts there are, kept across restarts. */
export class CacheMountTable implements Disposable {
  readonly #database: DatabaseSync;
  readonly #insert: StatementSync;
  readonly #touch: StatementSync;
  readonly #forget: StatementSync;
  readonly #delete: StatementSync;
  readonly #select: StatementSync;
  readonly #selectKey: StatementSync;

  constructor(path: string) {
    this.#database = new DatabaseSync(path);
    // Not FULL: of what a power cut takes back, the snapshot is removed at the next start.
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    this.#createTable();
    this.#insert = this.#database.prepare(
      `INSERT INTO cache_mounts (snapshot, id, key, base, description, created_at_ms, used_at_ms, use_count)
       VALUES (?, ?, ?, ?, ?, ?, ?, 0)`,
    );
    this.#touch = this.#database.prepare(
      "UPDATE cache_mounts SET used_at_ms = ?, use_count = use_count + 1 WHERE snapshot = ?",
    );
    this.#forget = this.#database.prepare("UPDATE cache_mounts SET key = NULL WHERE id = ?");
    this.#delete = this.#database.prepare("DELETE FROM cache_mounts WHERE snapshot = ?");
    this.#select = this.#database.prepare("SELECT * FROM cache_mounts ORDER BY created_at_ms, snapshot");
    this.#selectKey = this.#database.prepare(
      "SELECT * FROM cache_mounts WHERE key = ? ORDER BY created_at_ms, snapshot",
    );
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  /** Every record, the oldest first. */
  all(): CacheMountRecord[] {
    return this.#select.all().map(recordOf);
  }

  /** Those that may be given to who asks for `key`, the oldest first. */
  withKey(key: string): CacheMountRecord[] {
    return this.#selectKey.all(key).map(recordOf);
  }

  /** @param id what steps call it; {@link forget} goes by that, whatever its base is. */
  add(snapshot: string, id: string, key: string, base: string | undefined, description: string): void {
    const now = Date.now();
    this.#insert.run(snapshot, id, key, base ?? null, description, now, now);
  }

  touch(snapshot: string): void {
    this.#touch.run(Date.now(), snapshot);
  }

  forget(id: string): void {
    this.#forget.run(id);
  }

  remove(snapshot: string): void {
    this.#delete.run(snapshot);
  }

  #createTable(): void {
    const version = Number(this.#database.prepare("PRAGMA user_version").get()?.["user_version"]);
    if (version !== schemaVersion) {
      this.#database.exec("DROP TABLE IF EXISTS cache_mounts");
    }
    this.#database.exec(
      `CREATE TABLE IF NOT EXISTS cache_mounts (
         snapshot TEXT PRIMARY KEY,
         id TEXT NOT NULL,
         key TEXT,
         base TEXT,
         description TEXT NOT NULL,
         created_at_ms INTEGER NOT NULL,
         used_at_ms INTEGER NOT NULL,
         use_count INTEGER NOT NULL
       ) STRICT;
       CREATE INDEX IF NOT EXISTS cache_mounts_by_key ON cache_mounts (key);
       PRAGMA user_version = ${schemaVersion}`,
    );
  }
}

function recordOf(row: Readonly<Record<string, SQLOutputValue>>): CacheMountRecord {
  return {
    snapshot: String(row["snapshot"]),
    key: textOf(row["key"]),
    base: textOf(row["base"]),
    description: String(row["description"]),
    createdAtMs: Number(row["created_at_ms"]),
    usedAtMs: Number(row["used_at_ms"]),
    useCount: Number(row["use_count"]),
  };
}

function textOf(value: unknown): string | undefined {
  return value === null || value === undefined ? undefined : String(value);
}
