import type { DatabaseSync } from "node:sqlite";
import { NotFoundError } from "@oci-worker/errdefs";
import { type Mount, mountTemporarily } from "@oci-worker/mounts/mount";
import type { OwnerMap } from "@oci-worker/mounts/owner-map";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Lease } from "../cache/lease.ts";
import type { CacheRecords } from "../cache/records.ts";
import { newId } from "../new-id.ts";
import { CacheMountTable } from "./cache-mount-table.ts";

/** Who may use a cache mount while a step does: everybody, nobody, or whoever waits for its end. */
export type Sharing = "shared" | "private" | "locked";

export interface CacheMountRequest {
  /** What steps call it. */
  readonly id: string;
  /** Snapshot that it is to hold at first; undefined for nothing. */
  readonly base: string | undefined;
  readonly sharing: Sharing;
  /** For people: what it is made for, if it is made now. */
  readonly description: string;
}

/** A cache mount in use. Disposing ends that. */
export interface CacheMountUse extends AsyncDisposable {
  /** Where steps are remapped, these show files as theirs already. */
  readonly mounts: readonly Mount[];
}

export interface CacheMountsOptions {
  /** That of the cache, with its records. */
  readonly database: DatabaseSync;
  readonly records: CacheRecords;
  readonly snapshotter: Snapshotter;
  /** Where those that are no plain directory are mounted while they are used. */
  readonly mountDirectory: string;
  /** Whose ids steps see files with; undefined: as they are. */
  readonly owners: OwnerMap | undefined;
}

/** One that steps use now. */
interface Held {
  readonly id: string;
  readonly key: string;
  readonly sharing: Sharing;
  /** 0 while the last user's unmounting goes on. */
  users: number;
  /** It has been forgotten: who asks for it now is not given it. */
  isForgotten: boolean;
  readonly opened: Promise<{ readonly mounts: readonly Mount[] } & AsyncDisposable>;
}

/** Keys of the snapshots that are cache mounts. */
const snapshotPrefix = "cachemount-";

/**
 * The directories that steps keep from run to run, each an active snapshot of its own: never committed, never part of a
 * result.
 *
 * Which one a step gets goes by id and base; the sharing says what happens when that is in use (BuildKit's docs, RUN
 * --mount=type=cache).
 */
export class CacheMounts {
  readonly #table: CacheMountTable;
  readonly #records: CacheRecords;
  readonly #snapshotter: Snapshotter;
  readonly #mountDirectory: string;
  readonly #owners: OwnerMap | undefined;
  /** By snapshot. */
  readonly #held = new Map<string, Held>();
  /** Those who wait for one in use, the one who waits longest first. */
  readonly #waiting: (() => void)[] = [];

  constructor({ database, records, snapshotter, mountDirectory, owners }: CacheMountsOptions) {
    this.#table = new CacheMountTable(database);
    this.#records = records;
    this.#snapshotter = snapshotter;
    this.#mountDirectory = mountDirectory;
    this.#owners = owners;
  }

  /**
   * Steps that ask for `id` from now on get an empty one. Those that use it now go on, and what it holds stays until it is
   * removed.
   */
  forget(id: string): void {
    this.#table.forget(id);
    for (const held of this.#held.values()) {
      held.isForgotten ||= held.id === id;
    }
  }

  /**
   * Gives a step the cache mount that it asks for, once it may have it.
   *
   * Who needs several should ask for them in one order, the same for all: two that lock what the other waits for wait
   * for ever.
   */
  async use(request: CacheMountRequest, signal: AbortSignal): Promise<CacheMountUse> {
    const key = request.base === undefined ? request.id : `${request.id}:${request.base}`;
    for (;;) {
      signal.throwIfAborted();
      const busy = [...this.#held].filter(([, held]) => held.key === key && !held.isForgotten);
      const shared = busy.find(([, { sharing, users }]) => sharing === "shared" && users > 0);
      if (request.sharing === "shared" && shared !== undefined) {
        return await this.#join(...shared);
      }
      const free = this.#table.withKey(key).find((snapshot) => !this.#held.has(snapshot));
      const mustWait = request.sharing === "locked" || busy.some(([, { users }]) => users === 0);
      if (free === undefined && busy.length > 0 && mustWait) {
        await this.#released(signal);
        continue;
      }
      const use = await this.#hold(free, key, request);
      if (use !== undefined) {
        return use;
      }
    }
  }

  /** @returns undefined if `known` has gone. */
  async #hold(
    known: string | undefined,
    key: string,
    request: CacheMountRequest,
  ): Promise<CacheMountUse | undefined> {
    const { id, sharing } = request;
    const snapshot = known ?? `${snapshotPrefix}${newId()}`;
    const opened = this.#open(snapshot, known === undefined, key, request);
    const held: Held = { id, key, sharing, users: 0, isForgotten: false, opened };
    this.#held.set(snapshot, held);
    try {
      return await this.#join(snapshot, held);
    } catch (error) {
      if (known !== undefined && error instanceof NotFoundError) {
        this.#records.forget(known);
        return undefined;
      }
      throw error;
    }
  }

  /** Waits until it can be used. If that fails it fails for everybody who has joined, and it is not in use. */
  async #join(snapshot: string, held: Held): Promise<CacheMountUse> {
    held.users += 1;
    try {
      const { mounts } = await held.opened;
      return { mounts, [Symbol.asyncDispose]: () => this.#leave(snapshot, held) };
    } catch (error) {
      await this.#leave(snapshot, held);
      throw error;
    }
  }

  async #leave(snapshot: string, held: Held): Promise<void> {
    held.users -= 1;
    if (held.users > 0) {
      return;
    }
    try {
      const opened = await held.opened.catch(() => undefined);
      await opened?.[Symbol.asyncDispose]();
    } finally {
      this.#held.delete(snapshot);
      for (const wake of this.#waiting.splice(0)) {
        wake();
      }
    }
  }

  /** Not for one step alone: others may join, so no step's end ends it. */
  async #open(
    snapshot: string,
    isNew: boolean,
    key: string,
    request: CacheMountRequest,
  ): Promise<{ readonly mounts: readonly Mount[] } & AsyncDisposable> {
    await using undo = new AsyncDisposableStack();
    const lease = undo.use(this.#records.lease());
    const mounts = isNew
      ? await this.#make(snapshot, key, request, lease)
      : await this.#mountsOf(snapshot, lease);
    const [only, ...others] = mounts;
    if (only?.type === "bind" && others.length === 0 && this.#owners === undefined) {
      const owned = undo.move();
      return { mounts, [Symbol.asyncDispose]: () => owned.disposeAsync() };
    }
    // Once for all steps: an upper directory under two overlays is undefined behaviour (overlayfs.rst, "Changes to
    // underlying filesystems").
    const directory = undo.use(await mountTemporarily(mounts, this.#mountDirectory, this.#owners));
    const owned = undo.move();
    return {
      mounts: [{ type: "bind", source: directory.path, options: ["rw", "rbind"] }],
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }

  async #make(
    snapshot: string,
    key: string,
    { id, base, description }: CacheMountRequest,
    lease: Lease,
  ): Promise<readonly Mount[]> {
    using building = this.#records.lease();
    if (base !== undefined && !(await building.hold(base))) {
      throw new NotFoundError(`Cannot make cache mount ${id}: its base ${base} is not in the cache any more`);
    }
    const mounts = await this.#snapshotter.prepare(snapshot, base, {});
    const parents = base === undefined ? [] : [base];
    const record = {
      id: snapshot,
      parents,
      type: "exec.cachemount",
      description,
      mutable: true,
      blobs: [],
    } as const;
    this.#records.add(record, lease);
    this.#table.add(snapshot, id, key);
    return mounts;
  }

  /** @throws {NotFoundError} if it has been removed. */
  async #mountsOf(snapshot: string, lease: Lease): Promise<readonly Mount[]> {
    if (!(await lease.hold(snapshot))) {
      throw new NotFoundError(`Cannot use cache mount ${snapshot}: it has been removed`);
    }
    return await this.#snapshotter.mounts(snapshot);
  }

  /** Waits until some cache mount is not in use any more. */
  async #released(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = () => reject(signal.reason);
    this.#waiting.push(resolve);
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }
}
