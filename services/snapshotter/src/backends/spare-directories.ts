import { readdir } from "node:fs/promises";
import type { Logger } from "pino";
import type { Trees } from "../trees/trees.ts";

/** Fewer than that left: more are made. */
const lowWater = 16;

/** So many are made at a time, with one wait for the disk. */
const batchSize = 32;

/**
 * Directories that are made ahead for active snapshots to come, and are on disk already: a call that needs one waits
 * for no disk but the metastore's.
 *
 * The directory of a snapshot is made of three, and on a journaling file system that takes longer than all else that a
 * prepare does. Here it happens in another thread, and many share one wait.
 *
 * None is made before the first is asked for, so a service that nobody uses leaves its disk alone.
 */
export class SpareDirectories {
  readonly #directory: string;
  readonly #trees: Trees;
  readonly #nextID: () => number;
  readonly #log: Logger;
  #ids: number[] = [];
  #making = false;

  /**
   * @param directory holds the spare directories, each named by the id of the snapshot that it will belong to.
   * @param nextID gives out an id that no snapshot and no directory has had.
   */
  constructor(directory: string, trees: Trees, nextID: () => number, log: Logger) {
    this.#directory = directory;
    this.#trees = trees;
    this.#nextID = nextID;
    this.#log = log;
  }

  /** The path of the spare directory `id`. */
  pathOf(id: number | string): string {
    return `${this.#directory}/${id}`;
  }

  /** The names of those that an earlier process has left. */
  left(): Promise<string[]> {
    return readdir(this.#directory);
  }

  /** The id of a spare directory that is the caller's from now on, or undefined if there is none at the moment. */
  take(): number | undefined {
    const id = this.#ids.shift();
    if (this.#ids.length < lowWater && !this.#making) {
      this.#making = true;
      void this.#makeMore();
    }
    return id;
  }

  async #makeMore(): Promise<void> {
    const ids = Array.from({ length: batchSize }, () => this.#nextID());
    try {
      await this.#trees.run("spare", { directory: this.#directory, ids });
      this.#ids.push(...ids);
    } catch (error) {
      // Whoever needs a directory makes it and is told what is wrong.
      this.#log.debug({ err: error }, "no spare directories made");
    } finally {
      this.#making = false;
    }
  }
}
