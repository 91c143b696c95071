import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { codeOf } from "./error-code.ts";
import { maxTrees } from "./tree-file-system.ts";
import { writeWhole } from "./write-whole.ts";

/** A layer that is shown as a directory of a {@link TreeFileSystem}. */
export interface TreeRecord {
  readonly layerNumber: number;
  readonly metaPath: string;
  readonly metaDigest: string;
  /** Where the directory is mounted. */
  readonly target: string;
}

/** The number that the next one gets. */
const nextName = "next";

/** The tree `number` of those in the directory `path`; undefined if there is none. For the thread that serves it. */
export function readTreeRecord(path: string, number: number): TreeRecord | undefined {
  try {
    return JSON.parse(readFileSync(`${path}/${number}`, "utf8"));
  } catch (error) {
    if (codeOf(error) === "ENOENT") {
      return undefined;
    }
    throw error;
  }
}

/**
 * Which layer each tree shows, as a file for each: written before the kernel asks for the tree, so whoever serves it, in this
 * process or the next, finds it there.
 *
 * Numbers are never used again, because the kernel remembers what it was told of them. Nothing of this has to survive the
 * machine: mounts do not.
 */
export class TreeRecords {
  readonly path: string;
  readonly #targets = new Map<string, number>();
  #next: number;

  /** @param path a directory for the files, which is made if it is absent. */
  constructor(path: string) {
    this.path = path;
    mkdirSync(path, { recursive: true, mode: 0o700 });
    const names = readdirSync(path);
    const next = names.includes(nextName) ? Number(readFileSync(`${path}/${nextName}`, "latin1")) : 1;
    const numbers = names.map(Number).filter(Number.isInteger);
    for (const number of numbers) {
      const record = readTreeRecord(path, number);
      if (record !== undefined) {
        this.#targets.set(record.target, number);
      }
    }
    this.#next = Math.max(Number.isInteger(next) ? next : 1, ...numbers.map((number) => number + 1));
  }

  /** Where trees are mounted, or were to be when a process was killed. */
  get targets(): string[] {
    return [...this.#targets.keys()];
  }

  /** Gives a layer that is to be shown a number. @throws {FailedPreconditionError} if there is none left. */
  add(record: TreeRecord): number {
    const number = this.#next;
    if (number > maxTrees) {
      throw new FailedPreconditionError(
        `Cannot show layer ${record.layerNumber}: ${maxTrees} have been shown by FUSE, want another root`,
      );
    }
    this.#next += 1;
    writeWhole(`${this.path}/${nextName}`, String(this.#next));
    writeWhole(`${this.path}/${number}`, JSON.stringify(record));
    this.#targets.set(record.target, number);
    return number;
  }

  /** Nothing is mounted at `target` any more. */
  remove(target: string): void {
    const number = this.#targets.get(target);
    if (number !== undefined) {
      this.#targets.delete(target);
      rmSync(`${this.path}/${number}`, { force: true });
    }
  }
}
