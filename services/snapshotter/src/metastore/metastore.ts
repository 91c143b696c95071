import { closeSync, openSync } from "node:fs";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { AbortedError, FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { changeLabels, checkLabels, type LabelChange } from "@oci-worker/snapshots/labels";
import type { Usage } from "@oci-worker/snapshots/snapshotter";
import { type Client, formatClient, parseClient } from "../ownership/client.ts";
import { Ancestry } from "./ancestry.ts";
import { BoundedMap } from "./bounded-map.ts";
import { quote } from "./key.ts";
import { recordColumns, recordOf, recordTables, type SnapshotRecord, textChars } from "./record.ts";
import { Reserve } from "./reserve.ts";
import {
  checkCommit,
  checkMappingKept,
  checkNew,
  type Find,
  type NewCommit,
  type NewSnapshot,
} from "./rules.ts";
import { ensureSchema } from "./schema.ts";
import { WriteQueue } from "./write-queue.ts";

/** So many records are kept in memory; those of typical names and labels have half a kilobyte. */
const maxRecords = 4096;

/** A record with more text than that is read anew each time. */
const maxRecordChars = 4096;

/** How long a write waits for another program that has opened the file, such as a backup. */
const busyTimeoutMs = 5000;

/** Numbers of snapshots by kind. */
export interface SnapshotCounts {
  readonly active: bigint;
  readonly view: bigint;
  readonly committed: bigint;
}

/**
 * Names, parents, kinds, labels and sizes of snapshots, in one SQLite file. What has been acknowledged survives a
 * power cut.
 *
 * Reads are synchronous and see only what is complete. Writes go through a {@link WriteQueue}; the rules of the
 * contract are checked inside its transactions, so of two that exclude each other the first wins.
 */
export class Metastore implements Disposable {
  readonly #database: DatabaseSync;
  readonly #writes: WriteQueue;
  readonly #ancestry: Ancestry;
  /** Records that were read, by name. Whatever changes one deletes it here. */
  readonly #records = new BoundedMap<string, SnapshotRecord>(maxRecords);
  readonly #byName: StatementSync;
  readonly #byID: StatementSync;
  readonly #page: StatementSync;
  readonly #child: StatementSync;
  readonly #insert: StatementSync;
  readonly #relabel: StatementSync;
  readonly #makeCommitted: StatementSync;
  readonly #delete: StatementSync;

  /**
   * Opens the file `path`, or makes it, readable by its owner alone.
   *
   * @throws {DataLossError} if it is damaged.
   * @throws {FailedPreconditionError} if it was made by another program or a newer version.
   */
  constructor(path: string) {
    const reserve = new Reserve(`${path}-reserve`);
    // SQLite would make it readable by all.
    closeSync(openSync(path, "a", 0o600));
    const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: busyTimeoutMs });
    this.#database = database;
    try {
      ensureSchema(database, path);
      // FULL: a commit returns when the log is on disk. NORMAL would forget the last ones in a power cut.
      database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
      this.#writes = new WriteQueue(database, reserve);
      this.#ancestry = new Ancestry(database);
      this.#byName = this.#rows(`SELECT ${recordColumns} FROM ${recordTables} WHERE snapshot.name = ?`);
      this.#byID = this.#rows(`SELECT ${recordColumns} FROM ${recordTables} WHERE snapshot.id = ?`);
      this.#page = this.#rows(
        `SELECT ${recordColumns} FROM ${recordTables} WHERE snapshot.id > ? ORDER BY snapshot.id LIMIT ?`,
      );
      this.#child = database.prepare("SELECT name FROM snapshots WHERE parent_id = ? LIMIT 1");
      this.#insert = database.prepare(
        "INSERT INTO snapshots (id, name, parent_id, kind, labels, created_ns, updated_ns, size_bytes, inodes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      );
      this.#relabel = database.prepare("UPDATE snapshots SET labels = ?, updated_ns = ? WHERE id = ?");
      this.#makeCommitted = database.prepare(
        `UPDATE snapshots SET name = ?, parent_id = ?, kind = 'committed', labels = ?, created_ns = ?, updated_ns = ?,
          size_bytes = ?, inodes = ? WHERE id = ?`,
      );
      this.#delete = database.prepare("DELETE FROM snapshots WHERE id = ?");
    } catch (error) {
      database.close();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (this.#database.isOpen) {
      this.#writes.close();
      this.#database.close();
    }
  }

  /** The highest id that any snapshot has ever had; 0 if there was none. */
  get lastID(): number {
    const row = this.#database.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'").get();
    return Number(row?.["seq"] ?? 0);
  }

  /** Which backend the directories of this root belong to; undefined while there is no snapshot. */
  get backend(): string | undefined {
    return this.#factOfSnapshots("backend");
  }

  /** Remembers which backend the directories of this root belong to. */
  async setBackend(name: string): Promise<void> {
    await this.#setFact("backend", name);
  }

  /** Whose the snapshots of this root are; undefined while there is none, or nobody knows. */
  get owner(): Client | undefined {
    const value = this.#factOfSnapshots("owner");
    return value === undefined ? undefined : parseClient(value);
  }

  /** Remembers whose the snapshots of this root are. */
  async setOwner(owner: Client): Promise<void> {
    await this.#setFact("owner", formatClient(owner));
  }

  readonly find: Find = (key) => {
    const known = this.#records.get(key);
    if (known !== undefined) {
      return known;
    }
    const record = this.#read(key);
    if (record !== undefined && textChars(record) <= maxRecordChars) {
      this.#records.set(key, record);
    }
    return record;
  };

  /** The snapshot with the id `id`. */
  readonly findByID = (id: number): SnapshotRecord | undefined => {
    const row = this.#byID.get(id) as SQLOutputValue[] | undefined;
    return row === undefined ? undefined : recordOf(row);
  };

  /** The next `limit` snapshots after the one with the id `afterID`, in the order they were made. */
  page(afterID: number, limit: number): SnapshotRecord[] {
    return (this.#page.all(afterID, limit) as unknown as SQLOutputValue[][]).map(recordOf);
  }

  /** The ids of all snapshots. */
  ids(): Set<number> {
    return this.#numbers("SELECT id FROM snapshots");
  }

  /** The ids of all snapshots that have a directory: a view of another snapshot has none. */
  idsWithDirectory(): Set<number> {
    return this.#numbers("SELECT id FROM snapshots WHERE kind <> 'view' OR parent_id IS NULL");
  }

  /** The ids of everything beneath the snapshot with the parent `parentID`, the nearest first. */
  ancestors(parentID: number | undefined): readonly number[] {
    return this.#ancestry.from(parentID);
  }

  /**
   * Makes the snapshot `snapshot` with the id `id`.
   *
   * @param parentID of the parent that its directory was made for.
   * @throws what {@link checkNew} throws.
   * @throws {AbortedError} if its parent is another one by now.
   */
  create(id: number, snapshot: NewSnapshot, parentID: number | undefined): Promise<void> {
    return this.#writes.submit(() => {
      this.#checkNew(snapshot, parentID);
      const now = nowNs();
      const labels = JSON.stringify(checkLabels(snapshot.labels));
      this.#insert.run(id, snapshot.key, parentID ?? null, snapshot.kind, labels, now, now, null, null);
    });
  }

  /**
   * Makes a committed snapshot with the name and on the parent that `snapshot` has, without anybody having filled it: it
   * takes up nothing.
   *
   * @throws what {@link create} throws.
   */
  createCommitted(id: number, snapshot: NewSnapshot, parentID: number | undefined): Promise<void> {
    return this.#writes.submit(() => {
      this.#checkNew(snapshot, parentID);
      const now = nowNs();
      const labels = JSON.stringify(checkLabels(snapshot.labels));
      this.#insert.run(id, snapshot.key, parentID ?? null, "committed", labels, now, now, 0, 0);
    });
  }

  /**
   * Turns an active snapshot into a committed one.
   *
   * @param id of the snapshot that was measured.
   * @throws what {@link checkCommit} throws.
   * @throws {AbortedError} if the key is that of another snapshot by now.
   */
  commit(change: NewCommit, id: number, { sizeBytes, inodes }: Usage): Promise<void> {
    return this.#writes.submit(() => {
      const active = checkCommit(this.#findInTransaction, change);
      if (active.id !== id) {
        throw new AbortedError(
          `Cannot commit ${quote(change.key)}: it was replaced meanwhile, want another try`,
        );
      }
      const now = nowNs();
      const labels = JSON.stringify(checkLabels(change.labels));
      const parentID = active.parentID ?? null;
      this.#makeCommitted.run(change.name, parentID, labels, now, now, sizeBytes, inodes, id);
      this.#records.delete(change.key);
    });
  }

  /** Changes labels. @returns the snapshot as it is then. */
  update(key: string, change: LabelChange): Promise<SnapshotRecord> {
    return this.#writes.submit(() => {
      const record = this.#existing("update", key);
      const labels = changeLabels(record.labels, change);
      checkMappingKept(record, labels);
      const now = nowNs();
      // A clock that was set back does not make a change older than the snapshot.
      const updatedAtNs = now > record.createdAtNs ? now : record.createdAtNs;
      this.#relabel.run(JSON.stringify(labels), updatedAtNs, record.id);
      this.#records.delete(key);
      return { ...record, labels, updatedAtNs };
    });
  }

  /** How many snapshots of each kind there are. */
  counts(): SnapshotCounts {
    const rows = this.#database.prepare("SELECT kind, count(*) AS count FROM snapshots GROUP BY kind").all();
    const counts = Object.fromEntries(rows.map(({ kind, count }) => [String(kind), BigInt(Number(count))]));
    return { active: 0n, view: 0n, committed: 0n, ...counts };
  }

  /** What {@link remove} would refuse `record` with; undefined if it would not. */
  removalObstacle({ id, name }: SnapshotRecord): string | undefined {
    const child = this.#child.get(id);
    return child === undefined
      ? undefined
      : `Cannot remove ${quote(name)}: ${quote(String(child["name"]))} has it as parent, want that removed first`;
  }

  /** Removes a snapshot. @returns what it was. */
  remove(key: string): Promise<SnapshotRecord> {
    const change = () => {
      const record = this.#existing("remove", key);
      const obstacle = this.removalObstacle(record);
      if (obstacle !== undefined) {
        throw new FailedPreconditionError(obstacle);
      }
      this.#delete.run(record.id);
      this.#records.delete(key);
      return record;
    };
    return this.#writes.submit(change, { freesDisk: true });
  }

  /**
   * Finds a snapshot as the running transaction sees it. What that has changed is no longer among the records in
   * memory, and what is read now does not get there: it may yet be undone.
   */
  readonly #findInTransaction: Find = (key) => this.#records.get(key) ?? this.#read(key);

  #checkNew(snapshot: NewSnapshot, parentID: number | undefined): void {
    const parent = checkNew(this.#findInTransaction, snapshot);
    if (parent?.id !== parentID) {
      throw new AbortedError(
        `Cannot make ${quote(snapshot.key)}: parent ${quote(snapshot.parent ?? "")} was replaced meanwhile, want another try`,
      );
    }
  }

  #existing(action: string, key: string): SnapshotRecord {
    const record = this.#findInTransaction(key);
    if (record === undefined) {
      throw new NotFoundError(`Cannot ${action} ${quote(key)}: not found`);
    }
    return record;
  }

  #factOfSnapshots(name: string): string | undefined {
    const row = this.#database
      .prepare("SELECT value FROM facts WHERE name = ? AND EXISTS (SELECT 1 FROM snapshots)")
      .get(name);
    return row === undefined ? undefined : String(row["value"]);
  }

  async #setFact(name: string, value: string): Promise<void> {
    const known = this.#database.prepare("SELECT 1 FROM facts WHERE name = ? AND value = ?").get(name, value);
    if (known !== undefined) {
      // A start writes nothing that it need not: the disk may be full.
      return;
    }
    const statement = this.#database.prepare("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)");
    await this.#writes.submit(() => statement.run(name, value));
  }

  #read(key: string): SnapshotRecord | undefined {
    const row = this.#byName.get(key) as SQLOutputValue[] | undefined;
    return row === undefined ? undefined : recordOf(row);
  }

  /** The numbers in the one column of what `sql` selects. */
  #numbers(sql: string): Set<number> {
    const statement = this.#database.prepare(sql);
    statement.setReturnArrays(true);
    return new Set((statement.all() as unknown as number[][]).map(([number]) => number ?? 0));
  }

  #rows(sql: string): StatementSync {
    const statement = this.#database.prepare(sql);
    statement.setReturnArrays(true);
    // Times in nanoseconds do not fit into a number.
    statement.setReadBigInts(true);
    return statement;
  }
}

function nowNs(): bigint {
  return Temporal.Now.instant().epochNanoseconds;
}
