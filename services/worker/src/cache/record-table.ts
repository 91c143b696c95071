import type { DatabaseSync, SQLOutputValue, StatementSync } from "node:sqlite";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";
import { inTransaction } from "./database.ts";
import type { RecordType, StoredRecord } from "./record.ts";

/** Numbers of a record that change while it is there. */
export type RecordCounts = Pick<StoredRecord, "id" | "sizeBytes" | "usedAtMs" | "useCount">;

const columns = "id, parents, type, description, mutable, size_bytes, created_at_ms, used_at_ms, use_count";

/** The records on disk. Which of them may go is decided elsewhere. */
export class RecordTable {
  readonly #database: DatabaseSync;
  readonly #insert: StatementSync;
  readonly #insertBlob: StatementSync;
  readonly #setCounts: StatementSync;
  readonly #deletes: readonly StatementSync[];

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#insert = database.prepare(
      `INSERT OR REPLACE INTO records
         (${columns})
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#insertBlob = database.prepare("INSERT OR IGNORE INTO record_blobs (record, digest) VALUES (?, ?)");
    this.#setCounts = database.prepare(
      "UPDATE records SET size_bytes = ?, used_at_ms = ?, use_count = ? WHERE id = ?",
    );
    // A result that has lost one of its outputs is of no use, and neither are its blobs to anybody.
    this.#deletes = [
      "DELETE FROM results WHERE key IN (SELECT key FROM result_outputs WHERE record = ?)",
      "DELETE FROM result_outputs WHERE key IN (SELECT key FROM result_outputs WHERE record = ?)",
      "DELETE FROM cache_mounts WHERE record = ?",
      "DELETE FROM record_blobs WHERE record = ?",
      "DELETE FROM layer_blobs WHERE record = ?",
      "DELETE FROM records WHERE id = ?",
    ].map((sql) => database.prepare(sql));
  }

  /** Every record. There may be thousands, which the worker reads before it serves. */
  all(): StoredRecord[] {
    const blobs = new Map<string, Digest[]>();
    for (const [record, digest] of this.#rows("SELECT record, digest FROM record_blobs")) {
      const known = blobs.get(String(record));
      if (known === undefined) {
        blobs.set(String(record), [parseDigest(String(digest))]);
      } else {
        known.push(parseDigest(String(digest)));
      }
    }
    return this.#rows(`SELECT ${columns} FROM records`).map((row) => recordOf(row, blobs));
  }

  add(record: StoredRecord): void {
    inTransaction(this.#database, () => {
      this.#insert.run(
        record.id,
        JSON.stringify(record.parents),
        record.type,
        record.description,
        record.mutable ? 1 : 0,
        record.sizeBytes ?? null,
        record.createdAtMs,
        record.usedAtMs ?? null,
        record.useCount,
      );
      for (const digest of record.blobs) {
        this.#insertBlob.run(record.id, digest);
      }
    });
  }

  addBlobs(id: string, digests: readonly Digest[]): void {
    inTransaction(this.#database, () => {
      for (const digest of digests) {
        this.#insertBlob.run(id, digest);
      }
    });
  }

  setCounts(changed: Iterable<RecordCounts>): void {
    inTransaction(this.#database, () => {
      for (const { id, sizeBytes, usedAtMs, useCount } of changed) {
        this.#setCounts.run(sizeBytes ?? null, usedAtMs ?? null, useCount, id);
      }
    });
  }

  /** Removes a record, what it is to steps, and every result that it is part of. */
  remove(id: string): void {
    inTransaction(this.#database, () => {
      for (const statement of this.#deletes) {
        statement.run(id);
      }
    });
  }

  #rows(sql: string): SQLOutputValue[][] {
    const statement = this.#database.prepare(sql);
    statement.setReturnArrays(true);
    return statement.all() as unknown as SQLOutputValue[][];
  }
}

/** Of a row with {@link columns}. */
function recordOf(row: readonly SQLOutputValue[], blobs: ReadonlyMap<string, Digest[]>): StoredRecord {
  const [id, parents, type, description, mutable, sizeBytes, createdAtMs, usedAtMs, useCount] = row;
  return {
    id: String(id),
    parents: parents === "[]" ? [] : JSON.parse(String(parents)),
    type: String(type) as RecordType,
    description: String(description),
    mutable: mutable === 1,
    blobs: blobs.get(String(id)) ?? [],
    sizeBytes: numberOf(sizeBytes),
    createdAtMs: Number(createdAtMs),
    usedAtMs: numberOf(usedAtMs),
    useCount: Number(useCount),
  };
}

function numberOf(value: SQLOutputValue | undefined): number | undefined {
  return value === null || value === undefined ? undefined : Number(value);
}
