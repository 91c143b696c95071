import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { syncDirectory, syncFileSystem } from "../backends/directory-sync.ts";
import { ensureSchema } from "../metastore/schema.ts";
import { removeTree } from "../trees/remove-tree.ts";
import type { Examination } from "./examine.ts";
import type { RootState, Row } from "./root-state.ts";

/** What nobody but root may look into. */
const privateDirectory = 0o700;
const privateFile = 0o600;

/** As overlayfs's own. */
const workMode = 0o711;

/**
 * Mends the root that was read and examined. Content that may be wanted is moved to `recovered` and never deleted, and so
 * are copies of a database that is replaced. The caller holds the lock.
 *
 * It may be cut short anywhere and done again: what is moved is moved before the database forgets it, because the next
 * start deletes what that does not know.
 */
export function repairRoot(state: RootState, examination: Examination): void {
  const { root, rows } = state;
  const { lost, orphans, unfinished, spares, misplaced, withoutWork, open } = examination;
  const snapshots = join(root, "snapshots");
  for (const path of open.keys()) {
    chmodSync(join(root, path), path === "metadata.db" ? privateFile : privateDirectory);
  }
  for (const id of misplaced) {
    renameSync(join(root, "spare", `${id}`), join(snapshots, `${id}`));
  }
  for (const id of withoutWork) {
    mkdirSync(join(snapshots, `${id}`, "work"), workMode);
  }
  for (const row of rows.filter(({ id }) => lost.has(id))) {
    setAside(root, "snapshots", String(row.id), noteOf(row, rows));
  }
  for (const name of orphans) {
    setAside(root, "snapshots", name);
  }
  for (const name of unfinished) {
    removeTree(join(snapshots, name), () => undefined);
  }
  for (const name of spares) {
    // One that a snapshot had which the database no longer knows of; all others are empty.
    if (state.damage.length > 0 && isUsed(join(root, "spare", name, "fs"))) {
      setAside(root, "spare", name);
    } else {
      removeTree(join(root, "spare", name), () => undefined);
    }
  }
  if (existsSync(snapshots)) {
    syncDirectory(snapshots);
  }
  if (state.damage.length > 0) {
    replaceDatabase(state, examination);
  } else {
    mendDatabase(root, examination);
  }
}

/** Moves the directory `name` of `directory` to `recovered`, with a note of what it was. */
function setAside(root: string, directory: "snapshots" | "spare", name: string, note?: object): void {
  const from = join(root, directory, name);
  const to = freeName(recoveredOf(root), name);
  if (note !== undefined) {
    writeFileSync(`${to}.json`, `${JSON.stringify(note, undefined, 2)}\n`, {
      mode: privateFile,
      flush: true,
    });
  }
  if (existsSync(from)) {
    renameSync(from, to);
  }
  syncDirectory(recoveredOf(root));
}

function isUsed(content: string): boolean {
  return existsSync(content) && readdirSync(content).length > 0;
}

function noteOf(row: Row, rows: readonly Row[]): object {
  const { id, name, kind, labels, parentID } = row;
  const parent = rows.find((each) => each.id === parentID)?.name;
  return { id, name, kind, parentID, parent, labels };
}

function recoveredOf(root: string): string {
  const path = join(root, "recovered");
  if (!existsSync(path)) {
    mkdirSync(path, privateDirectory);
    syncDirectory(root);
  }
  return path;
}

/** A path in `directory` for `name` that neither a file nor a note has. */
function freeName(directory: string, name: string): string {
  for (let count = 1; ; count += 1) {
    const path = join(directory, count === 1 ? name : `${name}-${count}`);
    if (!existsSync(path) && !existsSync(`${path}.json`)) {
      return path;
    }
  }
}

/** Changes rows of a database that is sound as such. */
function mendDatabase(root: string, { lost, unlabelled, guessedBackend }: Examination): void {
  if (lost.size === 0 && unlabelled.length === 0 && guessedBackend === undefined) {
    return;
  }
  // Rows that point to each other can only go together.
  const database = new DatabaseSync(join(root, "metadata.db"), { enableForeignKeyConstraints: false });
  try {
    database.exec("PRAGMA synchronous = FULL; BEGIN IMMEDIATE;");
    const remove = database.prepare("DELETE FROM snapshots WHERE id = ?");
    for (const id of lost.keys()) {
      remove.run(id);
    }
    const unlabel = database.prepare("UPDATE snapshots SET labels = '{}' WHERE id = ?");
    for (const id of unlabelled) {
      unlabel.run(id);
    }
    if (guessedBackend !== undefined) {
      database.prepare("INSERT OR REPLACE INTO facts VALUES ('backend', ?)").run(guessedBackend);
    }
    database.exec("COMMIT");
  } finally {
    database.close();
  }
}

/** Puts a new database in the place of one that is damaged, with the rows of that which are sound. */
function replaceDatabase(state: RootState, { lost, unlabelled, guessedBackend }: Examination): void {
  const { root, rows, facts, lastID } = state;
  const path = join(root, "metadata.db");
  const copies = freeName(recoveredOf(root), "database");
  mkdirSync(copies, privateDirectory);
  for (const suffix of ["", "-wal", "-shm"]) {
    if (existsSync(`${path}${suffix}`)) {
      copyFileSync(`${path}${suffix}`, join(copies, `metadata.db${suffix}`));
    }
  }
  syncFileSystem(copies);
  const made = `${path}.new`;
  rmSync(made, { force: true });
  writeFileSync(made, "", { mode: privateFile });
  const database = new DatabaseSync(made, { enableForeignKeyConstraints: false });
  try {
    ensureSchema(database, made);
    database.exec("PRAGMA synchronous = FULL; BEGIN IMMEDIATE;");
    const insert = database.prepare("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
    for (const row of rows.filter(({ id }) => !lost.has(id))) {
      const labels = unlabelled.includes(row.id) ? "{}" : row.labels;
      const { id, name, parentID, kind, createdNs, updatedNs, sizeBytes, inodes } = row;
      insert.run(id, name, parentID ?? null, kind, labels, createdNs, updatedNs, sizeBytes, inodes);
    }
    const fact = database.prepare("INSERT OR REPLACE INTO facts VALUES (?, ?)");
    for (const [name, value] of facts) {
      fact.run(name, value);
    }
    if (guessedBackend !== undefined) {
      fact.run("backend", guessedBackend);
    }
    database.prepare("DELETE FROM sqlite_sequence WHERE name = 'snapshots'").run();
    // An id is never given out again, also not one of what was lost.
    database.prepare("INSERT INTO sqlite_sequence VALUES ('snapshots', ?)").run(lastID);
    database.exec("COMMIT");
  } finally {
    database.close();
  }
  // The log of the old one must be gone before: it would be played into the new one. What it holds is put where it
  // belongs as far as that goes, for the case that we get no further.
  emptyLog(path);
  for (const suffix of ["-wal", "-shm"]) {
    rmSync(`${path}${suffix}`, { force: true });
  }
  syncDirectory(root);
  renameSync(made, path);
  syncDirectory(root);
}

function emptyLog(path: string): void {
  try {
    using database = new DatabaseSync(path);
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch {
    // It is damaged, and a copy of it is in safety.
  }
}
