import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { RecordType } from "./record.ts";
import type { MeasuredRecord } from "./usage.ts";

/** What had records removed: a rule of the garbage collector, or a client that asked for it. */
export type Cause = { readonly by: "gc"; readonly rule: number } | { readonly by: "prune" };

/** A record that is not there any more, and why. */
export interface Removal {
  readonly id: string;
  readonly type: RecordType;
  readonly description: string;
  readonly sizeBytes: number;
  readonly removedAtMs: number;
  readonly by: Cause["by"];
  /** Number of the rule in the list of policies, from 1 on; undefined for what a client has asked for. */
  readonly rule: number | undefined;
  /** For people: why the rule covered it. */
  readonly why: string;
}

/** So many removals can be asked about. */
const maxRemovals = 10_000;

/** What was removed from the cache and why, kept across restarts. */
export class RemovalLog {
  readonly #insert: StatementSync;
  readonly #trim: StatementSync;
  readonly #select: StatementSync;

  constructor(database: DatabaseSync) {
    this.#insert = database.prepare(
      `INSERT INTO removals (record, type, description, size_bytes, removed_at_ms, by, rule, why)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#trim = database.prepare(
      `DELETE FROM removals WHERE number <= (SELECT max(number) FROM removals) - ${maxRemovals}`,
    );
    this.#select = database.prepare("SELECT * FROM removals ORDER BY number DESC LIMIT ?");
  }

  add(record: MeasuredRecord, cause: Cause & { readonly why: string }): void {
    const { id, type, description, sizeBytes } = record;
    const rule = cause.by === "gc" ? cause.rule : null;
    this.#insert.run(id, type, description, sizeBytes, Date.now(), cause.by, rule, cause.why);
    this.#trim.run();
  }

  /** The last `count` removals, the latest first. */
  latest(count: number): Removal[] {
    return this.#select.all(Math.min(count, maxRemovals)).map((row) => ({
      id: String(row["record"]),
      type: String(row["type"]) as RecordType,
      description: String(row["description"]),
      sizeBytes: Number(row["size_bytes"]),
      removedAtMs: Number(row["removed_at_ms"]),
      by: row["by"] === "gc" ? "gc" : "prune",
      rule: row["rule"] === null ? undefined : Number(row["rule"]),
      why: String(row["why"]),
    }));
  }
}
