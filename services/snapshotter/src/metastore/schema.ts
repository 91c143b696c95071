import type { DatabaseSync } from "node:sqlite";
import { DataLossError, FailedPreconditionError } from "@oci-worker/errdefs";

/** Marks the file as ours in its header (sqlite.org/pragma.html#pragma_application_id): "ocis". */
const applicationID = 0x6f636973;

/** Stands in the file's header as `user_version`. Raise it with each change of the tables, and migrate then. */
const schemaVersion = 1;

const schema = `
  CREATE TABLE snapshots (
    -- Also the name of its directory. AUTOINCREMENT: the id of a removed snapshot is never given out again.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Key or name: one name space.
    name TEXT NOT NULL UNIQUE,
    parent_id INTEGER REFERENCES snapshots (id),
    kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
    -- A JSON object of strings.
    labels TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    -- Measured at commit; an active snapshot is measured when asked, a view takes up nothing.
    size_bytes INTEGER,
    inodes INTEGER,
    CHECK ((kind = 'committed') = (size_bytes IS NOT NULL)),
    CHECK ((kind = 'committed') = (inodes IS NOT NULL))
  ) STRICT;
  CREATE INDEX snapshots_by_parent ON snapshots (parent_id) WHERE parent_id IS NOT NULL;

  -- Facts about the whole root, such as which backend its directories belong to.
  CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT;
`;

/**
 * Makes the tables in a database that is new, and checks one that is not.
 *
 * @throws {DataLossError} if the file is damaged.
 * @throws {FailedPreconditionError} if another program, or a newer version of this one, made it.
 */
export function ensureSchema(database: DatabaseSync, path: string): void {
  checkIntegrity(database, path);
  refuseForeign(database, path);
  if (isEmpty(database)) {
    database.exec(`
      BEGIN IMMEDIATE;
      ${schema}
      PRAGMA application_id = ${applicationID};
      PRAGMA user_version = ${schemaVersion};
      COMMIT;
    `);
  }
}

/**
 * Refuses a database that is not empty and not ours.
 *
 * @throws {FailedPreconditionError} if another program, or a newer version of this one, made it.
 */
export function refuseForeign(database: DatabaseSync, path: string): void {
  const version = pragma(database, "user_version");
  const owner = pragma(database, "application_id");
  if (version === 0 && owner === 0 && isEmpty(database)) {
    return;
  }
  if (owner !== applicationID) {
    throw new FailedPreconditionError(
      `Cannot open ${path}: another program made this database, want a root of our own`,
    );
  }
  if (version !== schemaVersion) {
    throw new FailedPreconditionError(
      `Cannot open ${path}: its schema is version ${version}, want ${schemaVersion} or a newer program`,
    );
  }
}

function checkIntegrity(database: DatabaseSync, path: string): void {
  let finding: unknown;
  try {
    finding = database.prepare("PRAGMA quick_check(1)").get()?.["quick_check"];
  } catch (cause) {
    finding = cause instanceof Error ? cause.message : String(cause);
  }
  if (finding !== "ok") {
    throw new DataLossError(
      `Cannot open ${path}: the database is damaged: ${String(finding)}, want a backup of it, or oci-snapshotter --repair`,
    );
  }
}

/** Whether nothing has been made in the database yet. */
export function isEmpty(database: DatabaseSync): boolean {
  return database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined;
}

function pragma(database: DatabaseSync, name: string): number {
  return Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
}
