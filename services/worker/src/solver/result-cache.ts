import { DatabaseSync, type StatementSync } from "node:sqlite";
import { NotFoundError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Ref } from "./operation.ts";

/** Of the table below. A file of another version is made anew: all that is lost is work that can be done again. */
const schemaVersion = 1;

/**
 * Results of operations by their cache key, kept across restarts.
 *
 * A result is a list of snapshot names. The snapshotter is asked for them before they are handed out, so a snapshot
 * that has gone is a miss and no failure.
 */
export class ResultCache implements Disposable {
  readonly #database: DatabaseSync;
  readonly #snapshotter: Pick<Snapshotter, "stat">;
  readonly #select: StatementSync;
  readonly #insert: StatementSync;
  readonly #touch: StatementSync;
  readonly #delete: StatementSync;

  constructor(path: string, snapshotter: Pick<Snapshotter, "stat">) {
    this.#snapshotter = snapshotter;
    this.#database = new DatabaseSync(path);
    // Not FULL: what a power cut takes back is made again.
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    this.#createTable();
    this.#select = this.#database.prepare("SELECT outputs FROM results WHERE key = ?");
    this.#insert = this.#database.prepare(
      `INSERT OR REPLACE INTO results (key, outputs, description, created_at_ms, used_at_ms, use_count)
       VALUES (?, ?, ?, ?, NULL, 0)`,
    );
    this.#touch = this.#database.prepare(
      "UPDATE results SET used_at_ms = ?, use_count = use_count + 1 WHERE key = ?",
    );
    this.#delete = this.#database.prepare("DELETE FROM results WHERE key = ?");
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  /** The result that was stored under `key`, if all its snapshots are still there. */
  async load(key: Digest, signal: AbortSignal): Promise<readonly (Ref | undefined)[] | undefined> {
    const row = this.#select.get(key);
    if (row === undefined) {
      return undefined;
    }
    const outputs = parseOutputs(String(row["outputs"]));
    for (const snapshot of snapshotsOf(outputs)) {
      if (!(await this.#exists(snapshot, signal))) {
        this.#delete.run(key);
        return undefined;
      }
    }
    this.#touch.run(Date.now(), key);
    return outputs;
  }

  /** Stores a result. An earlier one of the same key is replaced. */
  save(key: Digest, outputs: readonly (Ref | undefined)[], description: string): void {
    this.#insert.run(key, JSON.stringify(outputs.map((ref) => ref ?? null)), description, Date.now());
  }

  /** The names of all snapshots that a result refers to. */
  snapshots(): Set<string> {
    const rows = this.#database.prepare("SELECT outputs FROM results").all();
    return new Set(rows.flatMap((row) => snapshotsOf(parseOutputs(String(row["outputs"])))));
  }

  async #exists(snapshot: string, signal: AbortSignal): Promise<boolean> {
    try {
      return (await this.#snapshotter.stat(snapshot, signal)).kind === "committed";
    } catch (error) {
      if (error instanceof NotFoundError) {
        return false;
      }
      throw error;
    }
  }

  #createTable(): void {
    const version = Number(this.#database.prepare("PRAGMA user_version").get()?.["user_version"]);
    if (version !== schemaVersion) {
      this.#database.exec("DROP TABLE IF EXISTS results");
    }
    this.#database.exec(
      `CREATE TABLE IF NOT EXISTS results (
         key TEXT PRIMARY KEY,
         outputs TEXT NOT NULL,
         description TEXT NOT NULL,
         created_at_ms INTEGER NOT NULL,
         used_at_ms INTEGER,
         use_count INTEGER NOT NULL
       ) STRICT;
       PRAGMA user_version = ${schemaVersion}`,
    );
  }
}

function parseOutputs(json: string): (Ref | undefined)[] {
  const outputs: (Ref | null)[] = JSON.parse(json);
  return outputs.map((ref) => (ref === null ? undefined : { snapshot: ref.snapshot }));
}

function snapshotsOf(outputs: readonly (Ref | undefined)[]): string[] {
  return outputs.map((ref) => ref?.snapshot).filter((snapshot) => snapshot !== undefined);
}
