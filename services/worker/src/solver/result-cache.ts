import type { DatabaseSync, StatementSync } from "node:sqlite";
import { NotFoundError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { inTransaction } from "../cache/database.ts";
import type { Lease } from "../cache/lease.ts";
import type { CacheRecords } from "../cache/records.ts";
import type { Ref } from "./operation.ts";

/**
 * Results of operations by their cache key, kept across restarts.
 *
 * A result is a list of snapshots that have records. It goes with the first of them; and because the snapshotter is
 * asked before one is handed out, a snapshot that has gone behind our back is a miss and no failure.
 */
export class ResultCache {
  /** Told of every result that was looked for: whether it was there. */
  onLookup: (isThere: boolean) => void = () => undefined;
  /** Told of every key that is made: what of, and for which vertex. */
  onKey: (key: Digest, text: string, description: string) => void = () => undefined;
  readonly #database: DatabaseSync;
  readonly #records: CacheRecords;
  readonly #snapshotter: Pick<Snapshotter, "stat">;
  readonly #select: StatementSync;
  readonly #insert: StatementSync;
  readonly #selectOutput: StatementSync;
  readonly #insertOutput: StatementSync;
  readonly #deleteOutputs: StatementSync;

  constructor(database: DatabaseSync, records: CacheRecords, snapshotter: Pick<Snapshotter, "stat">) {
    this.#database = database;
    this.#records = records;
    this.#snapshotter = snapshotter;
    this.#select = database.prepare("SELECT outputs FROM results WHERE key = ?");
    this.#insert = database.prepare(
      "INSERT OR REPLACE INTO results (key, outputs, description, created_at_ms) VALUES (?, ?, ?, ?)",
    );
    this.#selectOutput = database.prepare("SELECT 1 FROM result_outputs WHERE record = ? LIMIT 1");
    this.#insertOutput = database.prepare("INSERT OR IGNORE INTO result_outputs (record, key) VALUES (?, ?)");
    this.#deleteOutputs = database.prepare("DELETE FROM result_outputs WHERE key = ?");
  }

  /** What holds results for as long as somebody works with them. */
  lease(): Lease {
    return this.#records.lease();
  }

  /** The result that was stored under `key`, if all its snapshots are still there; `lease` holds them then. */
  async load(
    key: Digest,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<readonly (Ref | undefined)[] | undefined> {
    const result = await this.#load(key, lease, signal);
    this.onLookup(result !== undefined);
    return result;
  }

  async #load(
    key: Digest,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<readonly (Ref | undefined)[] | undefined> {
    const row = this.#select.get(key);
    if (row === undefined) {
      return undefined;
    }
    const outputs = parseOutputs(String(row["outputs"]));
    for (const snapshot of snapshotsOf(outputs)) {
      if (!(await lease.hold(snapshot))) {
        return undefined;
      }
      if (!(await this.#exists(snapshot, signal))) {
        this.#records.forget(snapshot);
        return undefined;
      }
    }
    return outputs;
  }

  /** Stores a result, whose snapshots have records. An earlier one of the same key is replaced. */
  save(key: Digest, outputs: readonly (Ref | undefined)[], description: string): void {
    inTransaction(this.#database, () => {
      this.#deleteOutputs.run(key);
      this.#insert.run(key, JSON.stringify(outputs.map((ref) => ref ?? null)), description, Date.now());
      for (const snapshot of snapshotsOf(outputs)) {
        this.#insertOutput.run(snapshot, key);
      }
    });
  }

  /** Whether a result refers to `snapshot`. */
  leadTo(snapshot: string): boolean {
    return this.#selectOutput.get(snapshot) !== undefined;
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
}

function parseOutputs(json: string): (Ref | undefined)[] {
  const outputs: (Ref | null)[] = JSON.parse(json);
  return outputs.map((ref) => (ref === null ? undefined : { snapshot: ref.snapshot }));
}

function snapshotsOf(outputs: readonly (Ref | undefined)[]): string[] {
  return outputs.map((ref) => ref?.snapshot).filter((snapshot) => snapshot !== undefined);
}
