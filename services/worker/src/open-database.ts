import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";

/**
 * Opens the database at `path`, which is made if it is not there, for this process's user alone: who may pass through the
 * directory that it is in need not read what is built.
 */
export function openDatabase(path: string): DatabaseSync {
  // SQLite gives the files that it puts beside it the same mode.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  return new DatabaseSync(path);
}
