import type { DatabaseSync } from "node:sqlite";
import { openDatabase } from "../open-database.ts";

/** Of the tables below. */
const schemaVersion = 2;

/**
 * Opens the database of the cache: records of snapshots, what these can be handed out as, results by their cache key, which
 * records are the cache mounts of steps, and what was removed and why.
 *
 * Not `synchronous = FULL`: of what a power cut takes back, the snapshots are found again by the next start, which keeps
 * those that it can make use of and removes the others.
 */
export function openCacheDatabase(path: string): DatabaseSync {
  const database = openDatabase(path);
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
  const version = Number(database.prepare("PRAGMA user_version").get()?.["user_version"]);
  if (version !== schemaVersion) {
    // What is lost is work that can be done again.
    database.exec(
      `DROP TABLE IF EXISTS results; DROP TABLE IF EXISTS result_outputs;
       DROP TABLE IF EXISTS records; DROP TABLE IF EXISTS record_blobs;
       DROP TABLE IF EXISTS layer_blobs;
       DROP TABLE IF EXISTS cache_mounts; DROP TABLE IF EXISTS removals`,
    );
  }
  database.exec(
    `CREATE TABLE IF NOT EXISTS records (
       id TEXT PRIMARY KEY,
       parents TEXT NOT NULL,
       type TEXT NOT NULL,
       description TEXT NOT NULL,
       mutable INTEGER NOT NULL,
       size_bytes INTEGER,
       created_at_ms INTEGER NOT NULL,
       used_at_ms INTEGER,
       use_count INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE IF NOT EXISTS record_blobs (
       record TEXT NOT NULL,
       digest TEXT NOT NULL,
       PRIMARY KEY (record, digest)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX IF NOT EXISTS record_blobs_by_digest ON record_blobs (digest);
     CREATE TABLE IF NOT EXISTS layer_blobs (
       record TEXT NOT NULL,
       format TEXT NOT NULL,
       media_type TEXT NOT NULL,
       digest TEXT NOT NULL,
       size_bytes INTEGER NOT NULL,
       diff_id TEXT NOT NULL,
       annotations TEXT NOT NULL,
       reference TEXT,
       PRIMARY KEY (record, format)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE IF NOT EXISTS results (
       key TEXT PRIMARY KEY,
       outputs TEXT NOT NULL,
       description TEXT NOT NULL,
       created_at_ms INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE IF NOT EXISTS result_outputs (
       record TEXT NOT NULL,
       key TEXT NOT NULL,
       PRIMARY KEY (record, key)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX IF NOT EXISTS result_outputs_by_key ON result_outputs (key);
     CREATE TABLE IF NOT EXISTS cache_mounts (
       record TEXT PRIMARY KEY,
       id TEXT NOT NULL,
       key TEXT
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX IF NOT EXISTS cache_mounts_by_key ON cache_mounts (key);
     CREATE TABLE IF NOT EXISTS removals (
       number INTEGER PRIMARY KEY AUTOINCREMENT,
       record TEXT NOT NULL,
       type TEXT NOT NULL,
       description TEXT NOT NULL,
       size_bytes INTEGER NOT NULL,
       removed_at_ms INTEGER NOT NULL,
       by TEXT NOT NULL,
       rule INTEGER,
       why TEXT NOT NULL
     ) STRICT;
     PRAGMA user_version = ${schemaVersion}`,
  );
  return database;
}

/** Does `work` in one transaction: all of it, or nothing if it throws. */
export function inTransaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    // SQLite has done so itself where the disk had no room (sqlite.org, lang_transaction.html, 3).
    if (database.isTransaction) {
      database.exec("ROLLBACK");
    }
    throw error;
  }
}
