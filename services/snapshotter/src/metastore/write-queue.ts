import type { DatabaseSync, StatementSync } from "node:sqlite";
import { UnavailableError } from "@oci-worker/errdefs";
import { explainHostFailure, isFullDisk } from "../host-failure.ts";
import type { Reserve } from "./reserve.ts";

export interface ChangeOptions {
  /** Whether it is the beginning of making room, so that it may have what is kept for that. */
  readonly freesDisk?: boolean;
}

interface Member {
  readonly freesDisk: boolean;
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
  readonly #reserve: Reserve;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #savepoint: StatementSync;
  readonly #release: StatementSync;
  readonly #undo: StatementSync;
  #members: Member[] = [];
  #closed = false;

  /** @param reserve room for changes that free disk, once there is no other. */
  constructor(database: DatabaseSync, reserve: Reserve) {
    this.#database = database;
    this.#reserve = reserve;
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
   * @throws {ResourceExhaustedError} if the disk is full; nothing of it remains then.
   */
  submit<T>(change: () => T, { freesDisk = false }: ChangeOptions = {}): Promise<T> {
    if (this.#closed) {
      return Promise.reject(new UnavailableError("Cannot change metadata: the store is closed"));
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const member = {
      freesDisk,
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
      this.#runAll(members);
    } catch (error) {
      this.#runAfterFailure(members, error);
    }
  };

  /** @throws if nothing of any of `members` remains; their callers have not been told then. */
  #runAll(members: readonly Member[]): void {
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
      throw error;
    }
  }

  /** Tells the callers of `members`. Of a full disk those who free it get another try, without the others. */
  #runAfterFailure(members: readonly Member[], error: unknown): void {
    const freeing = isFullDisk(error) ? members.filter(({ freesDisk }) => freesDisk) : [];
    const isWorthwhile = freeing.length > 0 && (this.#reserve.release() || freeing.length < members.length);
    const failed = isWorthwhile ? members.filter((member) => !freeing.includes(member)) : members;
    rejectAll(failed, error);
    if (isWorthwhile) {
      try {
        this.#runAll(freeing);
      } catch (again) {
        rejectAll(freeing, again);
      }
    }
  }

  /** @returns how to answer the member once the transaction is on disk. */
  #attempt({ change, reject, freesDisk }: Member): () => void {
    this.#savepoint.run();
    try {
      if (!freesDisk) {
        this.#reserve.restore();
      }
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
      const reason = explainHostFailure(error);
      return () => reject(reason);
    }
  }
}

function rejectAll(members: readonly Member[], error: unknown): void {
  const reason = explainHostFailure(error);
  for (const { reject } of members) {
    reject(reason);
  }
}
