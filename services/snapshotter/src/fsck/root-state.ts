import { lstatSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type SQLOutputValue } from "node:sqlite";
import { isEmpty, refuseForeign } from "../metastore/schema.ts";

/** A row of the table of snapshots as it is, sound or not. */
export interface Row {
  readonly id: number;
  readonly name: string;
  readonly parentID: number | undefined;
  readonly kind: string;
  /** JSON. */
  readonly labels: string;
  /** The other columns: times in nanoseconds since 1970, and what was measured at commit. */
  readonly createdNs: bigint;
  readonly updatedNs: bigint;
  readonly sizeBytes: bigint | null;
  readonly inodes: bigint | null;
}

/** All that is known of a root, as it was read. Nothing in it has been judged yet. */
export interface RootState {
  readonly root: string;
  /** What SQLite has found wrong with the database; nothing if it is sound. */
  readonly damage: readonly string[];
  readonly rows: readonly Row[];
  readonly facts: ReadonlyMap<string, string>;
  /** The highest id that was ever given out, as far as it can be told. */
  readonly lastID: number;
  /** Names in `snapshots`, with the names in each that is a directory. */
  readonly directories: ReadonlyMap<string, readonly string[]>;
  /** Names in `spare`. */
  readonly spares: readonly string[];
  /** What others than its owner may look into, relative to the root, with its permissions. */
  readonly open: ReadonlyMap<string, number>;
}

/** What only we may look into. */
const ours = ["", "snapshots", "spare", "metadata.db"];

const forOthers = 0o077;

/**
 * Reads the root `root` without changing it. The caller holds its lock.
 *
 * @throws {FailedPreconditionError} if another program, or a newer version of this one, made its database.
 */
export function readRoot(root: string): RootState {
  const directories = new Map(
    namesIn(join(root, "snapshots")).map((name) => [name, namesIn(join(root, "snapshots", name))]),
  );
  const spares = namesIn(join(root, "spare"));
  const used = [...directories.keys(), ...spares, ...namesIn(join(root, "recovered"))].map(idIn);
  const highest = used.reduce((most, id) => Math.max(most, id), 0);
  const database = readDatabase(join(root, "metadata.db"), highest, directories.size > 0);
  const open = new Map(
    [...ours, ...[...directories.keys()].map((name) => `snapshots/${name}`)].flatMap((path) => {
      const mode = lstatSync(join(root, path), { throwIfNoEntry: false })?.mode ?? 0;
      return (mode & forOthers) === 0 ? [] : [[path, mode & 0o7777] as const];
    }),
  );
  return { root, ...database, lastID: Math.max(highest, database.lastID), directories, spares, open };
}

type DatabaseState = Pick<RootState, "damage" | "rows" | "facts" | "lastID">;

function readDatabase(path: string, highestID: number, hasDirectories: boolean): DatabaseState {
  const nothing = { rows: [], facts: new Map<string, string>(), lastID: 0 };
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0) {
    return {
      ...nothing,
      damage: hasDirectories ? ["there is none, but there are directories of snapshots"] : [],
    };
  }
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(path, { readOnly: true });
  } catch (error) {
    return { ...nothing, damage: [messageOf(error)] };
  }
  try {
    const damage = integrityOf(database);
    if (damage.length === 0) {
      refuseForeign(database, path);
      if (isEmpty(database)) {
        return { ...nothing, damage };
      }
    }
    const last = attempt(() =>
      database.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'").get(),
    );
    const lastID = Number(last?.["seq"] ?? 0);
    const facts = attempt(() => database.prepare("SELECT name, value FROM facts").all()) ?? [];
    return {
      damage,
      rows: readRows(database, Math.max(lastID, highestID)),
      facts: new Map(facts.map(({ name, value }) => [String(name), String(value)])),
      lastID,
    };
  } finally {
    database.close();
  }
}

/** What SQLite finds wrong; links between rows are judged elsewhere. */
function integrityOf(database: DatabaseSync): string[] {
  try {
    const findings = database.prepare("PRAGMA integrity_check(20)").all();
    return findings.map((row) => String(row["integrity_check"])).filter((finding) => finding !== "ok");
  } catch (error) {
    return [messageOf(error)];
  }
}

const columns = "id, name, parent_id, kind, labels, created_ns, updated_ns, size_bytes, inodes";

/**
 * Every row that can be read. If they cannot be read in one go, each id is looked up by itself: a page that is damaged
 * then costs the rows on it and no other.
 */
function readRows(database: DatabaseSync, lastID: number): Row[] {
  const all = attempt(() => rowsOf(database, `SELECT ${columns} FROM snapshots NOT INDEXED ORDER BY id`));
  if (all !== undefined) {
    return all;
  }
  const rows: Row[] = [];
  for (let id = 1; id <= lastID; id += 1) {
    const found = attempt(() => rowsOf(database, `SELECT ${columns} FROM snapshots WHERE id = ${id}`));
    if (found === undefined && !canPrepare(database)) {
      break;
    }
    rows.push(...(found ?? []));
  }
  return rows;
}

/** Whether the table is known at all; if not, no id can be found. */
function canPrepare(database: DatabaseSync): boolean {
  return attempt(() => database.prepare(`SELECT ${columns} FROM snapshots`)) !== undefined;
}

function rowsOf(database: DatabaseSync, sql: string): Row[] {
  const statement = database.prepare(sql);
  statement.setReturnArrays(true);
  statement.setReadBigInts(true);
  return (statement.all() as unknown as SQLOutputValue[][]).map((row) => {
    const [id, name, parentID, kind, labels, createdNs, updatedNs, sizeBytes, inodes] = row;
    return {
      id: Number(id),
      name: String(name),
      parentID: parentID === null ? undefined : Number(parentID),
      kind: String(kind),
      labels: String(labels),
      createdNs: integer(createdNs) ?? 0n,
      updatedNs: integer(updatedNs) ?? 0n,
      sizeBytes: integer(sizeBytes),
      inodes: integer(inodes),
    };
  });
}

function integer(value: SQLOutputValue | undefined): bigint | null {
  return typeof value === "bigint" ? value : null;
}

/** What `read` gives; undefined if what it wants to read is damaged. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** The names in the directory `path`; none if it is no directory. */
function namesIn(path: string): string[] {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? readdirSync(path).sort() : [];
}

function idIn(name: string): number {
  return Number(/^(?:new-)?(\d{1,15})(?:$|[-.])/.exec(name)?.[1] ?? 0);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
