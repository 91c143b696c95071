import { NotFoundError } from "@oci-worker/errdefs";
import { type Mount, mountTemporarily } from "@oci-worker/mounts/mount";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { newId } from "../new-id.ts";
import { type CacheMountRecord, CacheMountTable } from "./cache-mount-table.ts";

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
  readonly mounts: readonly Mount[];
}

export interface CacheMountsOptions {
  readonly databasePath: string;
  readonly snapshotter: Snapshotter;
  /** Where those that are no plain directory are mounted while they are used. */
  readonly mountDirectory: string;
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
export class CacheMounts implements Disposable {
  readonly #table: CacheMountTable;
  readonly #snapshotter: Snapshotter;
  readonly #mountDirectory: string;
  /** By snapshot. */
  readonly #held = new Map<string, Held>();
  /** Those who wait for one in use, the one who waits longest first. */
  readonly #waiting: (() => void)[] = [];

  constructor({ databasePath, snapshotter, mountDirectory }: CacheMountsOptions) {
    this.#table = new CacheMountTable(databasePath);
    this.#snapshotter = snapshotter;
    this.#mountDirectory = mountDirectory;
  }

  [Symbol.dispose](): void {
    this.#table[Symbol.dispose]();
  }

  /** Every cache mount there is, the oldest first, and whether a step uses it now. */
  list(): (CacheMountRecord & { readonly inUse: boolean })[] {
    return this.#table.all().map((record) => ({ ...record, inUse: this.#held.has(record.snapshot) }));
  }

  /**
   * Removes one with all that it holds.
   *
   * @returns false if a step uses it, or it is none.
   */
  async remove(snapshot: string): Promise<boolean> {
    const isKnown = this.#table.all().some((record) => record.snapshot === snapshot);
    if (!isKnown || this.#held.has(snapshot)) {
      return false;
    }
    this.#table.remove(snapshot);
    await this.#removeSnapshot(snapshot);
    return true;
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
      const free = this.#table.withKey(key).find(({ snapshot }) => !this.#held.has(snapshot));
      const mustWait = request.sharing === "locked" || busy.some(([, { users }]) => users === 0);
      if (free === undefined && busy.length > 0 && mustWait) {
        await this.#released(signal);
        continue;
      }
      const use = await this.#hold(free?.snapshot, key, request);
      if (use !== undefined) {
        return use;
      }
    }
  }

  /** @returns undefined if `known` has gone from the snapshotter, and with it its record. */
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
        this.#table.remove(known);
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
      this.#table.touch(snapshot);
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
    { id, base, description }: CacheMountRequest,
  ): Promise<{ readonly mounts: readonly Mount[] } & AsyncDisposable> {
    let mounts: readonly Mount[];
    if (isNew) {
      mounts = await this.#snapshotter.prepare(snapshot, base, {});
      this.#table.add(snapshot, id, key, base, description);
    } else {
      mounts = await this.#snapshotter.mounts(snapshot);
    }
    const [only, ...others] = mounts;
    if (only?.type === "bind" && others.length === 0) {
      return { mounts, [Symbol.asyncDispose]: () => Promise.resolve() };
    }
    // Once for all steps: an upper directory under two overlays is undefined behaviour (overlayfs.rst, "Changes to
    // underlying filesystems").
    const directory = await mountTemporarily(mounts, this.#mountDirectory);
    return {
      mounts: [{ type: "bind", source: directory.path, options: ["rw", "rbind"] }],
      [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
    };
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

  async #removeSnapshot(snapshot: string): Promise<void> {
    try {
      await this.#snapshotter.remove(snapshot);
    } catch (error) {
      if (!(error instanceof NotFoundError)) {
        throw error;
      }
    }
  }
}
