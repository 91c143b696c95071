import type { DatabaseSync, StatementSync } from "node:sqlite";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { openDatabase } from "../open-database.ts";
import type { BuildRecord } from "./build-record.ts";

/** Of the table below. */
const schemaVersion = 1;

/** Builds that have ended, on disk: what was acknowledged survives a power cut. */
export class BuildTable implements Disposable {
  readonly #database: DatabaseSync;
  readonly #put: StatementSync;
  readonly #get: StatementSync;
  readonly #all: StatementSync;
  readonly #delete: StatementSync;
  readonly #doom: StatementSync;

  /** @throws {FailedPreconditionError} if the file is of a newer version. */
  constructor(path: string) {
    this.#database = openDatabase(path);
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    const version = Number(this.#database.prepare("PRAGMA user_version").get()?.["user_version"]);
    if (version > schemaVersion) {
      this.#database.close();
      throw new FailedPreconditionError(
        `Cannot use ${path}: it has version ${version}, want ${schemaVersion}; a newer worker has written it`,
      );
    }
    this.#database.exec(
      `CREATE TABLE IF NOT EXISTS builds (
         ref TEXT PRIMARY KEY,
         completed_at_ms INTEGER NOT NULL,
         record TEXT NOT NULL,
         doomed INTEGER NOT NULL DEFAULT 0
       ) STRICT;
       CREATE INDEX IF NOT EXISTS builds_by_age ON builds (completed_at_ms);
       DELETE FROM builds WHERE doomed;
       PRAGMA user_version = ${schemaVersion}`,
    );
    this.#put = this.#database.prepare(
      "INSERT OR REPLACE INTO builds (ref, completed_at_ms, record) VALUES (?, ?, ?)",
    );
    this.#get = this.#database.prepare("SELECT record FROM builds WHERE ref = ?");
    this.#all = this.#database.prepare("SELECT record FROM builds ORDER BY completed_at_ms, ref");
    this.#delete = this.#database.prepare("DELETE FROM builds WHERE ref = ?");
    this.#doom = this.#database.prepare("UPDATE builds SET doomed = 1 WHERE ref = ?");
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  put(record: BuildRecord): void {
    this.#put.run(record.ref, record.completedAtMs ?? 0, JSON.stringify(record));
  }

  get(ref: string): BuildRecord | undefined {
    const row = this.#get.get(ref);
    return row === undefined ? undefined : parse(row["record"]);
  }

  /** Every record, the one that ended first first. */
  all(): BuildRecord[] {
    return this.#all.all().map((row) => parse(row["record"]));
  }

  delete(ref: string): void {
    this.#delete.run(ref);
  }

  /** It is to be deleted when nobody looks at it any more, and at the latest by the next process. */
  doom(ref: string): void {
    this.#doom.run(ref);
  }
}

function parse(json: unknown): BuildRecord {
  const record: BuildRecord = JSON.parse(String(json));
  // What an earlier version has written lacks what is newer.
  return { ...record, warnings: record.warnings ?? 0 };
}
