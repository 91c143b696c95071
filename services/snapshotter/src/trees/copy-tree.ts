import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  symlinkSync,
} from "node:fs";
import { FailedPreconditionError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { mknod } from "@oci-worker/libc/file";
import { copyContent } from "./copy-content.ts";
import { MetadataCopier } from "./copy-metadata.ts";
import { type Entry, maxDepth, OpenDirectory } from "./open-directory.ts";

/**
 * Which part of a copy to do, in this order. Files can be copied by several threads at once; the rest takes little.
 *
 * - `skeleton`: directories, symbolic links, devices, fifos, sockets.
 * - `files`: regular files, of these the share of lane `lane` of `lanes`. Lane 0 has all that have several names.
 * - `directories`: owner, mode, attributes and times of directories, which writing into them would have changed.
 */
export type CopyPart =
  | { readonly name: "skeleton" }
  | { readonly name: "files"; readonly lane: number; readonly lanes: number }
  | { readonly name: "directories" };

export interface CopyResult {
  /** Regular files in the tree. */
  readonly files: number;
  /** Extended attributes that this process may not set, with the number of times. */
  readonly skippedAttributes: Readonly<Record<string, number>>;
}

/** A fifo that is put in the place of a file would block an open without O_NONBLOCK. */
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** While a tree is being filled only we may look at it. */
const privateFile = 0o600;
const privateDirectory = 0o700;

const blockBytes = 512;
const slash = Buffer.from("/");

/**
 * Copies one part of the tree `from` to the tree `to`, which is an empty directory at first: content with its holes,
 * hard links among each other, devices, owners, modes, extended attributes, and times to the nanosecond.
 *
 * Symbolic links are copied and never followed; mounts in the tree are not entered.
 *
 * @param onDirectory called for each directory; ends the copy by throwing.
 */
export function copyTree(from: string, to: string, part: CopyPart, onDirectory: () => void): CopyResult {
  using source = new OpenDirectory(from);
  using target = new OpenDirectory(to);
  return new TreeCopy(part, onDirectory, source, target).run(
    source,
    target,
    Buffer.from(from),
    Buffer.from(to),
  );
}

/** A directory and its copy, both open. */
interface Pair {
  readonly source: OpenDirectory;
  readonly target: OpenDirectory;
  /** Where the copy is below the top of the tree; empty for the top itself. */
  readonly relative: Buffer;
  readonly depth: number;
}

class TreeCopy {
  readonly #part: CopyPart;
  readonly #onDirectory: () => void;
  /** Top of the copy. */
  readonly #top: OpenDirectory;
  /** The file system that is copied from. */
  readonly #device: bigint;
  readonly #metadata = new MetadataCopier();
  /** Where the first copy of each file with several names is, below the top, by device and inode. */
  readonly #linked = new Map<string, Buffer>();
  #files = 0;

  constructor(part: CopyPart, onDirectory: () => void, source: OpenDirectory, target: OpenDirectory) {
    this.#part = part;
    this.#onDirectory = onDirectory;
    this.#top = target;
    this.#device = source.stat().dev;
  }

  run(source: OpenDirectory, target: OpenDirectory, from: Buffer, to: Buffer): CopyResult {
    this.#directory({ source, target, relative: Buffer.alloc(0), depth: 0 });
    if (this.#part.name === "directories") {
      this.#metadata.copy(source.stat(), from, to);
    }
    return { files: this.#files, skippedAttributes: Object.fromEntries(this.#metadata.skippedAttributes) };
  }

  #directory(pair: Pair): void {
    this.#onDirectory();
    if (pair.depth === maxDepth) {
      throw new ResourceExhaustedError(`Cannot copy tree: its directories nest deeper than ${maxDepth}`);
    }
    for (const entry of pair.source.entries()) {
      if (entry.isDirectory()) {
        this.#subdirectory(entry, pair);
      } else if (entry.isFile()) {
        this.#files += 1;
        if (this.#part.name === "files") {
          this.#file(entry, pair, this.#part.lane, this.#part.lanes);
        }
      } else if (this.#part.name === "skeleton") {
        this.#special(entry, pair);
      }
    }
  }

  #subdirectory({ name }: Entry, { source, target, relative, depth }: Pair): void {
    const to = target.pathOf(name);
    if (this.#part.name === "skeleton") {
      mkdirSync(to, privateDirectory);
    }
    using sourceChild = new OpenDirectory(source.pathOf(name));
    using targetChild = new OpenDirectory(to);
    const stat = sourceChild.stat();
    // Something is mounted here, which is no part of the tree.
    if (stat.dev === this.#device) {
      this.#directory({
        source: sourceChild,
        target: targetChild,
        relative: Buffer.concat([relative, slash, name]),
        depth: depth + 1,
      });
    }
    if (this.#part.name === "directories") {
      this.#metadata.copy(stat, source.pathOf(name), to);
    }
  }

  #file({ name }: Entry, pair: Pair, lane: number, lanes: number): void {
    const from = pair.source.pathOf(name);
    const isOurs = laneOf(name, lanes) === lane;
    // Names of one file are linked by one lane alone, which has to look for them in the shares of the others.
    if (!isOurs && (lane !== 0 || lstatSync(from, { bigint: true }).nlink === 1n)) {
      return;
    }
    using closing = new DisposableStack();
    const input = openSync(from, readFlags);
    closing.defer(() => closeSync(input));
    const stat = fstatSync(input, { bigint: true });
    if (!stat.isFile()) {
      throw new FailedPreconditionError(`Cannot copy ${name.toString()}: it is replaced while it is copied`);
    }
    if (stat.nlink > 1n && (lane !== 0 || this.#link(stat, name, pair))) {
      return;
    }
    const output = openSync(pair.target.pathOf(name), createFlags, privateFile);
    closing.defer(() => closeSync(output));
    copyContent(input, output, Number(stat.size), Number(stat.blocks) * blockBytes);
    this.#metadata.copyOpen(stat, input, output);
  }

  #special({ name }: Entry, pair: Pair): void {
    const from = pair.source.pathOf(name);
    const to = pair.target.pathOf(name);
    const stat = lstatSync(from, { bigint: true });
    if (stat.nlink > 1n && this.#link(stat, name, pair)) {
      return;
    }
    if (stat.isSymbolicLink()) {
      symlinkSync(readlinkSync(from, { encoding: "buffer" }), to);
    } else {
      mknod(to, Number(stat.mode), stat.rdev);
    }
    this.#metadata.copy(stat, from, to);
  }

  /** Makes one more name for a file that has been copied; if it has not been yet, remembers where it will be. */
  #link(stat: BigIntStats, name: Buffer, { target, relative }: Pair): boolean {
    const identity = `${stat.dev}:${stat.ino}`;
    const first = this.#linked.get(identity);
    if (first === undefined) {
      this.#linked.set(identity, Buffer.concat([relative, slash, name]));
      return false;
    }
    linkSync(this.#top.pathOf(first), target.pathOf(name));
    return true;
  }
}

/** Which lane a file belongs to, by its name: to look at the file would cost a system call. */
function laneOf(name: Buffer, lanes: number): number {
  return lanes === 1 ? 0 : name.reduce((sum, byte) => sum + byte, 0) % lanes;
}
