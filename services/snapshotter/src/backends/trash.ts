import { basename, dirname } from "node:path";
import { readMountsAndServed } from "@oci-worker/mounts/served-overlays";
import type { Logger } from "pino";
import { abortable } from "../abortable.ts";
import { errorOf, type TreeFailure } from "../trees/jobs.ts";
import type { Trees } from "../trees/trees.ts";
import { mountsInTheWay, type OwnMounts } from "./mounts-in-the-way.ts";

/** Deletion begins when nobody has changed anything for so long. */
const quietMs = 500;

/** What has waited so long is deleted, however busy it is. */
const maxWaitMs = 30_000;

/** What could not be deleted is tried again so often. */
const retryMs = 60_000;

/** So many directories are handed over at a time. */
const batchSize = 64;

/** So long deletion goes on at a time, before it is seen whether somebody else has work to do. A stop waits no longer. */
const sliceMs = 200;

/**
 * Deletes directories in the background, one after the other and when it is quiet, so that whoever removes a snapshot
 * waits for no file and the disk is left to those who have work to do.
 *
 * What is mounted somewhere is not deleted before that is undone, and what cannot be deleted is tried again; both are
 * logged once. What is here when the program stops is found again by the next start.
 */
export class Trash implements AsyncDisposable {
  readonly #trees: Trees;
  readonly #ownMounts: OwnMounts;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  /** What is to be deleted, the oldest first. */
  readonly #paths = new Set<string>();
  /** What could not be deleted when it was tried last, and why. */
  readonly #kept = new Map<string, string>();
  #work: Promise<void> | undefined;
  /** How many wait for the end of deletion, so that it gives way to nobody. */
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  /** Moments of `performance.now()`. */
  #oldestAt = 0;
  #busyAt = 0;

  constructor(trees: Trees, ownMounts: OwnMounts, log: Logger) {
    this.#trees = trees;
    this.#ownMounts = ownMounts;
    this.#log = log;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    clearTimeout(this.#retry);
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

  /** Deletes now all that is in here, and waits for the end of it; what is added meanwhile is not waited for. */
  async empty(signal: AbortSignal | undefined): Promise<void> {
    this.#takeUpKept();
    const mine = new Set(this.#paths);
    this.#waiting += 1;
    try {
      while (!mine.isDisjointFrom(this.#paths) && !this.#stop.signal.aborted) {
        this.#begin();
        await abortable(this.#work ?? Promise.resolve(), signal);
      }
    } finally {
      this.#waiting -= 1;
    }
  }

  get #beginAt(): number {
    return this.#waiting > 0 ? 0 : Math.min(this.#busyAt + quietMs, this.#oldestAt + maxWaitMs);
  }

  /** Sees to it that deletion begins when it is quiet. */
  #schedule(): void {
    const isSettled = this.#timer !== undefined || this.#work !== undefined || this.#stop.signal.aborted;
    if (isSettled || this.#paths.size === 0) {
      return;
    }
    const delayMs = this.#beginAt - performance.now();
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
    this.#work ??= this.#deleteSome().finally(() => {
      this.#work = undefined;
      this.#schedule();
    });
  }

  /** Deletes until nothing is left, or somebody else has work to do. */
  async #deleteSome(): Promise<void> {
    do {
      const batch = [...this.#paths.keys().take(batchSize)];
      try {
        await this.#delete(await this.#released(await this.#unmounted(batch)));
      } catch (error) {
        for (const path of batch) {
          this.#keep(path, { err: error }, String(error));
        }
      }
    } while (this.#paths.size > 0 && this.#beginAt <= performance.now() && !this.#stop.signal.aborted);
  }

  async #delete(paths: readonly string[]): Promise<void> {
    const job = { paths, maxMs: sliceMs, isIdle: this.#waiting === 0 };
    const outcomes = await this.#trees.run("remove", job, this.#stop.signal);
    for (const [index, path] of paths.entries()) {
      const outcome = outcomes[index];
      if (outcome === "gone") {
        this.#paths.delete(path);
        this.#kept.delete(path);
      } else if (outcome !== "unfinished" && outcome !== undefined) {
        this.#keepFailed(path, outcome);
      }
    }
  }

  #keepFailed(path: string, failure: TreeFailure): void {
    this.#keep(path, { err: errorOf(failure) }, failure.message);
  }

  /** Leaves a directory for another time. */
  #keep(path: string, details: object, reason: string): void {
    if (this.#stop.signal.aborted) {
      return;
    }
    if (this.#kept.get(path) !== reason) {
      this.#log.warn({ path, ...details }, "directory without a snapshot not deleted");
    }
    this.#paths.delete(path);
    this.#kept.set(path, reason);
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      this.#takeUpKept();
    }, retryMs).unref();
  }

  #takeUpKept(): void {
    for (const path of this.#kept.keys()) {
      this.add(path);
    }
  }

  /** Those of `paths` in which nothing is mounted any more that we have mounted ourselves. */
  async #released(paths: readonly string[]): Promise<string[]> {
    const released: string[] = [];
    for (const path of paths) {
      try {
        await this.#ownMounts.release(path);
        released.push(path);
      } catch (error) {
        this.#keep(path, { err: error }, String(error));
      }
    }
    return released;
  }

  /** Those of `paths` that no mount of others uses. What a mount shows is not ours to delete. */
  async #unmounted(paths: readonly string[]): Promise<string[]> {
    const mounts = await readMountsAndServed();
    const inUse = new Map<string, ReadonlyMap<string, readonly string[]>>();
    for (const directory of new Set(paths.map((path) => dirname(path)))) {
      inUse.set(directory, await mountsInTheWay(mounts, directory, this.#ownMounts));
    }
    return paths.filter((path) => {
      const mountPoint = inUse.get(dirname(path))?.get(basename(path))?.[0];
      if (mountPoint !== undefined) {
        this.#keep(path, { mountPoint, reason: "a mount uses it" }, `mounted at ${mountPoint}`);
      }
      return mountPoint === undefined;
    });
  }
}
