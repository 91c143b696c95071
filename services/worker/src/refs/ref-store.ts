import { mkdir } from "node:fs/promises";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { clearMountPoints } from "@oci-worker/mounts/clear-mount-points";
import { type Mount, type MountedDirectory, mountTemporarily } from "@oci-worker/mounts/mount";
import type { Info, Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import { newId } from "../new-id.ts";
import type { Ref } from "../solver/operation.ts";

/** A snapshot that can be written to until it is kept or dropped. */
export interface MutableRef {
  readonly mounts: readonly Mount[];

  /** Keeps what has been written, under a name of its own or under `name`. Nothing may be mounted any more. */
  commit(name?: string): Promise<Ref>;

  /** Drops it, with whatever has been written. */
  drop(): Promise<void>;
}

export interface RefStoreOptions {
  readonly snapshotter: Snapshotter;
  /** Where snapshots are mounted to be looked at. */
  readonly mountDirectory: string;
  readonly log: Logger;
}

/** Names of snapshots that operations have made. Others are chain ids of image layers. */
const resultPrefix = "result-";

/** The worker's hold on the snapshotter: results that are kept, and what is worked on until it is one. */
export class RefStore {
  readonly #snapshotter: Snapshotter;
  readonly #mountDirectory: string;
  readonly #log: Logger;

  constructor({ snapshotter, mountDirectory, log }: RefStoreOptions) {
    this.#snapshotter = snapshotter;
    this.#mountDirectory = mountDirectory;
    this.#log = log;
  }

  /**
   * Removes what a process that was killed has left: mounts, snapshots that were worked on, and results that it had no
   * time to note.
   *
   * @param kept the snapshots that results are known to refer to, and those that are cache mounts.
   */
  async recover(kept: ReadonlySet<string>): Promise<void> {
    await mkdir(this.#mountDirectory, { recursive: true, mode: 0o700 });
    await clearMountPoints(this.#mountDirectory);
    const leftovers = ({ kind, name }: Info) =>
      !kept.has(name) && (kind !== "committed" || name.startsWith(resultPrefix));
    const names: string[] = [];
    for await (const info of this.#snapshotter.walk([])) {
      if (leftovers(info)) {
        names.push(info.name);
      }
    }
    await this.#removeAll(names);
  }

  /** A snapshot on top of `base` to be written to. */
  async prepare(base: Ref, signal: AbortSignal): Promise<MutableRef> {
    const key = `work-${newId()}`;
    const mounts = await this.#snapshotter.prepare(key, base.snapshot, {}, signal);
    return {
      mounts,
      commit: async (name = `${resultPrefix}${newId()}`) => {
        await this.#snapshotter.commit(name, key, {});
        return { snapshot: name };
      },
      drop: () => this.#remove(key),
    };
  }

  /** A way to look at `ref` without changing it, dropped when it is disposed of. */
  async view(
    ref: Ref,
    signal: AbortSignal,
  ): Promise<{ readonly mounts: readonly Mount[] } & AsyncDisposable> {
    const key = `view-${newId()}`;
    const mounts = await this.#snapshotter.view(key, ref.snapshot, {}, signal);
    return { mounts, [Symbol.asyncDispose]: () => this.#remove(key) };
  }

  /** Shows `ref` in a directory, for reading only, until that is disposed of. */
  async mount(ref: Ref, signal: AbortSignal): Promise<MountedDirectory> {
    await using undo = new AsyncDisposableStack();
    const { mounts } = undo.use(await this.view(ref, signal));
    const { path } = undo.use(await mountTemporarily(mounts, this.#mountDirectory));
    const owned = undo.move();
    return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
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
