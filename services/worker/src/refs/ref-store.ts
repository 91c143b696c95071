import { mkdir } from "node:fs/promises";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { clearMountPoints } from "@oci-worker/mounts/clear-mount-points";
import { type Mount, type MountedDirectory, mountTemporarily } from "@oci-worker/mounts/mount";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import type { Lease } from "../cache/lease.ts";
import type { NewRecord } from "../cache/record.ts";
import type { CacheRecords } from "../cache/records.ts";
import { newId } from "../new-id.ts";
import type { Ref } from "../solver/operation.ts";

/** A snapshot that can be written to until it is kept or dropped. */
export interface MutableRef {
  readonly mounts: readonly Mount[];

  /** Keeps what has been written, held by `lease`. Nothing may be mounted any more. */
  commit(lease: Lease): Promise<Ref>;

  /** Drops it, with whatever has been written. */
  drop(): Promise<void>;
}

/** What a snapshot is made for, as its record says; a result of a step where nothing else is said. */
export interface Purpose extends Partial<Pick<NewRecord, "type">> {
  /** For people. */
  readonly description: string;
}

export interface RefStoreOptions {
  readonly snapshotter: Snapshotter;
  readonly records: CacheRecords;
  /** Where snapshots are mounted to be looked at. */
  readonly mountDirectory: string;
  readonly log: Logger;
}

/** The worker's hold on the snapshotter: results that are kept, and what is worked on until it is one. */
export class RefStore {
  readonly #snapshotter: Snapshotter;
  readonly #records: CacheRecords;
  readonly #mountDirectory: string;
  readonly #log: Logger;

  constructor({ snapshotter, records, mountDirectory, log }: RefStoreOptions) {
    this.#snapshotter = snapshotter;
    this.#records = records;
    this.#mountDirectory = mountDirectory;
    this.#log = log;
  }

  /**
   * Removes what a process that was killed has left: mounts, and snapshots.
   *
   * @param leftovers snapshots that nothing needs.
   */
  async recover(leftovers: readonly string[]): Promise<void> {
    await mkdir(this.#mountDirectory, { recursive: true, mode: 0o700 });
    await clearMountPoints(this.#mountDirectory);
    await this.#removeAll(leftovers);
  }

  /**
   * A snapshot on top of `base` to be written to.
   *
   * @throws {NotFoundError} if `base` is not in the cache any more: hold what is worked with.
   */
  async prepare(
    base: Ref,
    { description, type = "regular" }: Purpose,
    signal: AbortSignal,
  ): Promise<MutableRef> {
    await using undo = new AsyncDisposableStack();
    const key = `work-${newId()}`;
    const record = { parents: parentsOf(base), type, description, blobs: [] };
    undo.use(this.#records.begin({ ...record, id: key, mutable: true }));
    const mounts = await this.#snapshotter.prepare(key, base.snapshot, {}, signal);
    const work = undo.move();
    return {
      mounts,
      commit: async (lease) => {
        const name = `result-${newId()}`;
        await this.#snapshotter.commit(name, key, {});
        this.#records.add({ ...record, id: name, mutable: false }, lease);
        await work.disposeAsync();
        return { snapshot: name };
      },
      drop: async () => {
        await this.#remove(key);
        await work.disposeAsync();
      },
    };
  }

  /** A way to look at `ref` without changing it, dropped when it is disposed of. */
  async view(
    ref: Ref,
    signal: AbortSignal,
  ): Promise<{ readonly mounts: readonly Mount[] } & AsyncDisposable> {
    await using undo = new AsyncDisposableStack();
    const lease = undo.use(this.#records.lease());
    if (ref.snapshot !== undefined && !(await lease.hold(ref.snapshot))) {
      throw new NotFoundError(`Cannot look at snapshot ${ref.snapshot}: it is not in the cache any more`);
    }
    const key = `view-${newId()}`;
    const mounts = await this.#snapshotter.view(key, ref.snapshot, {}, signal);
    undo.defer(() => this.#remove(key));
    const owned = undo.move();
    return { mounts, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  /** Shows `ref` in a directory, for reading only, until that is disposed of; with the mounts that it is made of. */
  async mount(
    ref: Ref,
    signal: AbortSignal,
  ): Promise<MountedDirectory & { readonly mounts: readonly Mount[] }> {
    await using undo = new AsyncDisposableStack();
    const { mounts } = undo.use(await this.view(ref, signal));
    const { path } = undo.use(await mountTemporarily(mounts, this.#mountDirectory));
    const owned = undo.move();
    return { path, mounts, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  /** Removes a snapshot that is ours alone. One that has gone already is none the worse. */
  async #remove(key: string): Promise<void> {
    try {
      await this.#snapshotter.remove(key);
    } catch (error) {
      if (!(error instanceof NotFoundError)) {
        throw error;
      }
    }
  }

  /** Removes snapshots of which some are parents of others: those without children first, round by round. */
  async #removeAll(names: readonly string[]): Promise<void> {
    let left = names;
    while (left.length > 0) {
      const refused: string[] = [];
      for (const name of left) {
        try {
          await this.#remove(name);
        } catch (error) {
          if (!(error instanceof FailedPreconditionError)) {
            throw error;
          }
          refused.push(name);
        }
      }
      if (refused.length === left.length) {
        this.#log.warn({ snapshots: refused }, "snapshots of an earlier run are still in use");
        return;
      }
      left = refused;
    }
    if (names.length > 0) {
      this.#log.info({ count: names.length }, "snapshots of an earlier run removed");
    }
  }
}

function parentsOf({ snapshot }: Ref): string[] {
  return snapshot === undefined ? [] : [snapshot];
}
