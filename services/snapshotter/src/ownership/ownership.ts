import { AlreadyExistsError, FailedPreconditionError, InvalidArgumentError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { quote } from "../metastore/key.ts";
import type { Client, KeyScheme } from "./client.ts";

/** Where it is remembered whose the root is. */
export interface OwnerRecord {
  /** Undefined while there is no snapshot: nothing can be lost, so whoever comes may have the root. */
  readonly owner: Client | undefined;
  setOwner(owner: Client): Promise<void>;
}

export interface OwnershipOptions {
  readonly record: OwnerRecord;
  /** The client that the operator has said the root is for; undefined: whoever changes something first. */
  readonly client: string | undefined;
  /** Whether others are only warned of. */
  readonly allowSeveralClients: boolean;
  readonly log: Logger;
}

/** Names are words of a config file; nobody fills the log or the database with them. */
const maxNameChars = 256;

/** So many others are told apart in the log. */
const maxOthers = 16;

/**
 * Sees to it that one root has one client.
 *
 * The garbage collectors of containerd and BuildKit delete every snapshot that they do not know, so two clients on one
 * root lose data. The first that changes something owns it, across restarts and for as long as there are snapshots;
 * changes by any other one are refused. All name spaces of a containerd are one client: one collector knows them all.
 *
 * Whoever gives no name speaks for no collector: a person with a tool. Containerd and BuildKit always give one.
 */
export class Ownership {
  readonly #options: OwnershipOptions;
  readonly #others = new Set<string>();
  #owner: Client | undefined;
  /** Whether the record says the same. Until then the owner is one only as long as its first calls last. */
  #isRecorded: boolean;
  #pending = 0;

  constructor(options: OwnershipOptions) {
    const { record, client, log } = options;
    const { owner } = record;
    this.#options = options;
    if (client === undefined || client === owner?.name) {
      this.#owner = owner;
      this.#isRecorded = owner !== undefined;
    } else {
      if (owner !== undefined) {
        log.warn(
          { from: owner.name, to: client },
          "root handed over, whose snapshots the new client may delete",
        );
      }
      this.#owner = { name: client, keys: undefined };
      this.#isRecorded = false;
    }
  }

  /**
   * Makes a change for a client, who owns the root then if nobody did.
   *
   * @param what the change, for errors: `remove "key"`.
   * @param name what the client calls us.
   * @param keys how it makes its keys; undefined if the request shows none.
   * @throws {FailedPreconditionError} if the root belongs to another client, with how to run a second instance.
   * @throws {InvalidArgumentError} for a name that is none.
   */
  async change<T>(
    what: string,
    name: string,
    keys: KeyScheme | undefined,
    run: () => Promise<T>,
  ): Promise<T> {
    if (name === "") {
      return run();
    }
    this.#admit(what, name, keys);
    if (this.#isRecorded) {
      return run();
    }
    this.#pending += 1;
    try {
      const result = await run();
      await this.#keep();
      return result;
    } catch (error) {
      // So is a client told that its layer is in place, which it need not unpack.
      if (error instanceof AlreadyExistsError) {
        await this.#keep();
      }
      throw error;
    } finally {
      this.#pending -= 1;
      if (this.#pending === 0 && !this.#isRecorded) {
        // Nothing came of it: a call that has failed makes nobody the owner.
        this.#owner = this.#named();
      }
    }
  }

  #named(): Client | undefined {
    const { client } = this.#options;
    return client === undefined ? undefined : { name: client, keys: undefined };
  }

  #admit(what: string, name: string, keys: KeyScheme | undefined): void {
    if (name.length > maxNameChars) {
      throw new InvalidArgumentError(
        `Cannot ${what}: the snapshotter's name has ${name.length} characters, want at most ${maxNameChars}`,
      );
    }
    const owner = this.#owner;
    if (owner === undefined || (owner.name === name && owner.keys === undefined)) {
      this.#owner = { name, keys };
      this.#isRecorded = false;
      return;
    }
    if (owner.name === name && (keys === undefined || keys === owner.keys)) {
      return;
    }
    this.#tell(owner, name, keys);
    if (!this.#options.allowSeveralClients) {
      throw new FailedPreconditionError(
        `Cannot ${what} for ${described({ name, keys })}: ${refusal(owner, name)}`,
      );
    }
  }

  /** Once for each other client: a collector that is refused comes again and again. */
  #tell(owner: Client, name: string, keys: KeyScheme | undefined): void {
    const other = `${keys} ${name}`;
    if (this.#others.has(other) || this.#others.size === maxOthers) {
      return;
    }
    this.#others.add(other);
    const { log, allowSeveralClients } = this.#options;
    const fields = { client: name, keys, owner: owner.name, ownerKeys: owner.keys };
    log.warn(
      fields,
      allowSeveralClients ? "second client on this root" : "second client on this root refused",
    );
  }

  async #keep(): Promise<void> {
    const owner = this.#owner;
    if (this.#isRecorded || owner === undefined) {
      return;
    }
    await this.#options.record.setOwner(owner);
    if (!this.#isRecorded) {
      this.#isRecorded = true;
      this.#options.log.info({ client: owner.name, keys: owner.keys }, "client owns this root");
    }
  }
}

function described({ name, keys }: Client): string {
  return keys === undefined ? `client ${quote(name)}` : `client ${quote(name)} with keys ${schemes[keys]}`;
}

const schemes: Readonly<Record<KeyScheme, string>> = {
  containerd: "as containerd's metadata makes them",
  own: "of its own make",
};

function refusal(owner: Client, name: string): string {
  const handOver =
    owner.name === name
      ? ""
      : `, or, if it is the same one by a new name, this one started with --client ${quote(name)}`;
  return (
    `this root belongs to ${described(owner)}, and each one's garbage collector deletes what the other has made; ` +
    `want an oci-snapshotter for each, with --root and --address of its own${handOver}`
  );
}
