import { readMountInfo } from "@oci-worker/mounts/mountinfo";
import type { Logger } from "pino";
import { abortable } from "../abortable.ts";
import { errorOf } from "../trees/jobs.ts";
import type { Trees } from "../trees/trees.ts";

/** Deletion begins when nobody has changed anything for so long. */
const quietMs = 500;

/** What has waited so long is deleted, however busy it is. */
const maxWaitMs = 30_000;

/** So many directories are handed over at a time; a stop waits for one round at most. */
const batchSize = 64;

/**
 * Deletes directories in the background, one after the other and when it is quiet, so that whoever removes a snapshot
 * waits for no file and the disk is left to those who have work to do.
 *
 * What cannot be deleted is logged. It is found again by the next clean-up, and so is what is here when the program
 * stops.
 */
export class Trash implements AsyncDisposable {
  readonly #trees: Trees;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #paths = new Set<string>();
  #work: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Moments of `performance.now()`. */
  #oldestAt = 0;
  #busyAt = 0;

  constructor(trees: Trees, log: Logger) {
    this.#trees = trees;
    this.#log = log;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#stop.abort();
    await this.#work;
  }

  /** Puts deletion off, because somebody has work to do. */
  giveWay(): void {
    this.#busyAt = performance.now();
  }

  /** Deletes the directory `path` some time. */
  add(path: string): void {
    if (this.#paths.size === 0) {
      this.#oldestAt = performance.now();
    }
    this.#paths.add(path);
    this.#schedule();
  }

  /** Deletes now all that is in here, and waits for the end of it. */
  async empty(signal: AbortSignal | undefined): Promise<void> {
    this.#begin();
    await abortable(this.#work ?? Promise.resolve(), signal);
  }

  /** Sees to it that deletion begins when it is quiet. */
  #schedule(): void {
    if (this.#timer !== undefined || this.#work !== undefined || this.#stop.signal.aborted) {
      return;
    }
    const beginAt = Math.min(this.#busyAt + quietMs, this.#oldestAt + maxWaitMs);
    const delayMs = beginAt - performance.now();
    if (delayMs <= 0) {
      this.#begin();
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#schedule();
    }, delayMs).unref();
  }

  #begin(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#work ??= this.#deleteAll().finally(() => {
      this.#work = undefined;
    });
  }

  async #deleteAll(): Promise<void> {
    while (this.#paths.size > 0 && !this.#stop.signal.aborted) {
      const batch = [...this.#paths.keys().take(batchSize)];
      try {
        await this.#delete(await this.#unmounted(batch));
      } catch (error) {
        if (!this.#stop.signal.aborted) {
          this.#log.warn({ paths: batch, err: error }, "directories without a snapshot not deleted");
        }
      }
      for (const path of batch) {
        this.#paths.delete(path);
      }
    }
  }

  async #delete(paths: readonly string[]): Promise<void> {
    const failures = await this.#trees.run("remove", { paths }, this.#stop.signal);
    for (const [index, failure] of failures.entries()) {
      if (failure !== undefined && !this.#stop.signal.aborted) {
        this.#log.warn(
          { path: paths[index], err: errorOf(failure) },
          "directory without a snapshot not deleted",
        );
      }
    }
  }

  /** Those of `paths` in which nothing is mounted. What a mount shows is not ours to delete. */
  async #unmounted(paths: readonly string[]): Promise<string[]> {
    const mountPoints = (await readMountInfo()).map(({ mountPoint }) => mountPoint);
    return paths.filter((path) => {
      const mountPoint = mountPoints.find((point) => point === path || point.startsWith(`${path}/`));
      if (mountPoint !== undefined) {
        this.#log.warn(
          { path, mountPoint },
          "directory without a snapshot not deleted: something is mounted in it",
        );
      }
      return mountPoint === undefined;
    });
  }
}
