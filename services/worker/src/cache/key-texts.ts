import { DatabaseSync, type StatementSync } from "node:sqlite";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Logger } from "pino";

/** A cache key, and what it is made of. */
export interface KeyText {
  readonly key: Digest;
  readonly text: string;
  /** Of the vertex whose results go by it. */
  readonly description: string;
}

/** So many are kept, those made last: enough for hundreds of builds. */
const maxKept = 20_000;

/** How a key looks within a text: that of an input. */
const digestForm = /sha256:[0-9a-f]{64}/g;

interface Open {
  readonly database: DatabaseSync;
  readonly insert: StatementSync;
  readonly forget: StatementSync;
  readonly select: StatementSync;
  readonly selectAll: StatementSync;
}

/**
 * Keeps what cache keys are made of, which they do not tell themselves: of two that ought to be one, the texts say why
 * they are not. It keeps nothing before it is opened.
 *
 * It is there for people, so that what goes wrong with it does not fail a build.
 */
export class KeyTexts implements Disposable {
  readonly #log: Logger;
  #open: Open | undefined;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @throws {FailedPreconditionError} if the database at `path` cannot be used. */
  open(path: string): void {
    try {
      this.#open = openDatabase(path);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new FailedPreconditionError(
        `Cannot keep what cache keys are made of in ${path}: ${why}, want it removed`,
        { cause },
      );
    }
  }

  note({ key, text, description }: KeyText): void {
    try {
      this.#open?.insert.run(key, text, description);
      this.#open?.forget.run();
    } catch (err) {
      this.#log.warn({ err, key }, "what a cache key is made of could not be kept");
    }
  }

  /** All that are kept, the one made last first. @throws {FailedPreconditionError} if none are. */
  all(): KeyText[] {
    return this.#required().selectAll.all().map(keyTextOf);
  }

  /**
   * `key`, and after it the keys that it is made of, as far as they are kept. Empty if it is not itself.
   *
   * @throws {FailedPreconditionError} if none are.
   */
  lookup(key: string): KeyText[] {
    const { select } = this.#required();
    const found = new Map<string, KeyText>();
    const wanted = [key];
    for (let next = wanted.shift(); next !== undefined; next = wanted.shift()) {
      const row = found.has(next) ? undefined : select.get(next);
      if (row !== undefined) {
        const keyText = keyTextOf(row);
        found.set(next, keyText);
        wanted.push(...(keyText.text.match(digestForm) ?? []));
      }
    }
    return [...found.values()];
  }

  [Symbol.dispose](): void {
    this.#open?.database.close();
    this.#open = undefined;
  }

  #required(): Open {
    if (this.#open === undefined) {
      throw new FailedPreconditionError(
        "Cannot tell what cache keys are made of: it is not kept, want the worker started with --save-cache-debug",
      );
    }
    return this.#open;
  }
}

function openDatabase(path: string): Open {
  const database = new DatabaseSync(path);
  database.exec(
    `PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
     CREATE TABLE IF NOT EXISTS key_texts (
       number INTEGER PRIMARY KEY AUTOINCREMENT,
       key TEXT NOT NULL UNIQUE,
       text TEXT NOT NULL,
       description TEXT NOT NULL
     ) STRICT`,
  );
  const columns = "key, text, description";
  return {
    database,
    insert: database.prepare(`INSERT OR REPLACE INTO key_texts (${columns}) VALUES (?, ?, ?)`),
    forget: database.prepare(
      `DELETE FROM key_texts WHERE number <= (SELECT max(number) FROM key_texts) - ${maxKept}`,
    ),
    select: database.prepare(`SELECT ${columns} FROM key_texts WHERE key = ?`),
    selectAll: database.prepare(`SELECT ${columns} FROM key_texts ORDER BY number DESC`),
  };
}

function keyTextOf(row: Record<string, unknown>): KeyText {
  return {
    key: String(row["key"]) as Digest,
    text: String(row["text"]),
    description: String(row["description"]),
  };
}
