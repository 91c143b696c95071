import type { DatabaseSync, StatementSync } from "node:sqlite";
import { UnavailableError } from "@oci-worker/errdefs";
import { explainFullDisk } from "../full-disk.ts";

interface Member {
  /** Makes the change and returns what to tell its caller once it is on disk. */
  readonly change: () => () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Makes changes to a database durable, several at a time: whatever is submitted until the event loop comes round
 * shares one transaction, and so one wait for the disk.
 *
 * A change is synchronous, so none of them sees another one half done, and neither does a reader on the same
 * connection. One that throws is undone alone, and its caller gets what it threw.
 */
export class WriteQueue {
  readonly #database: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #savepoint: StatementSync;
  readonly #release: StatementSync;
  readonly #undo: StatementSync;
  #members: Member[] = [];
  #closed = false;

  constructor(database: DatabaseSync) {
    this.#database = database;
    // IMMEDIATE takes the write lock at once; otherwise the first write could find that somebody else has it.
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#commit = database.prepare("COMMIT");
    this.#savepoint = database.prepare("SAVEPOINT member");
    this.#release = database.prepare("RELEASE member");
    this.#undo = database.prepare("ROLLBACK TO member");
  }

  /**
   * Runs `change` in a transaction.
   *
   * @returns what `change` returned, once that is on disk.
   * @throws what `change` threw; nothing of it remains then.
   * @throws {ResourceExhaustedError} if the disk is full; nothing of the whole transaction remains then.
   */
  submit<T>(change: () => T): Promise<T> {
    if (this.#closed) {
      return Promise.reject(new UnavailableError("Cannot change metadata: the store is closed"));
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const member = {
      change: () => {
        const result = change();
        return () => resolve(result);
      },
      reject,
    };
    if (this.#members.push(member) === 1) {
      setImmediate(this.#flush);
    }
    return promise;
  }

  /** Makes what was submitted durable and takes nothing more. */
  close(): void {
    this.#flush();
    this.#closed = true;
  }

  readonly #flush = (): void => {
    const members = this.#members;
    if (members.length === 0) {
      return;
    }
    this.#members = [];
    try {
      this.#begin.run();
      const answers = members.map((member) => this.#attempt(member));
      this.#commit.run();
      for (const answer of answers) {
        answer();
      }
    } catch (error) {
      if (this.#database.isTransaction) {
        this.#database.exec("ROLLBACK");
      }
      const reason = explainFullDisk(error);
      for (const { reject } of members) {
        reject(reason);
      }
    }
  };

  /** @returns how to answer the member once the transaction is on disk. */
  #attempt({ change, reject }: Member): () => void {
    this.#savepoint.run();
    try {
      const answer = change();
      this.#release.run();
      return answer;
    } catch (error) {
      if (!this.#database.isTransaction) {
        // A full disk makes SQLite roll back everything: this member cannot fail alone.
        throw error;
      }
      this.#undo.run();
      this.#release.run();
      const reason = explainFullDisk(error);
      return () => reject(reason);
    }
  }
}
