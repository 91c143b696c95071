import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { FileTable } from "./file-table.ts";
import { blockBytes } from "./node.ts";

/** Size of what stands at the beginning of a block for each name: inode, place of the name, type, one byte unused. */
export const direntBytes = 12;

/** What Linux takes for one component of a path (limits.h, NAME_MAX). */
const maxNameBytes = 255;

const [slash, dot] = [0x2f, 0x2e];

/** Stand for "." and ".." among the names of a {@link Listings}. */
export const [self, above] = [-1, -2];

/**
 * The names in all directories, "." and ".." among them, each directory's in the order of the bytes, in which the kernel
 * searches.
 */
export class Listings {
  /** Numbers of names, or {@link self} and {@link above}. */
  readonly names: Int32Array;
  #end = 0;
  readonly #files: FileTable;

  /** @param directories how many there are. */
  constructor(files: FileTable, directories: number) {
    this.#files = files;
    this.names = new Int32Array(files.nameFiles.length + 2 * directories);
  }

  /**
   * Adds the names in `directory`.
   *
   * @returns the place of the first in {@link names}; the last one's is before the next directory's first.
   * @throws {InvalidArgumentError} for a name that is no component of a path.
   */
  add(directory: number): number {
    const { firstNames, texts, nameStarts, nameLengths } = this.#files;
    const { names } = this;
    const start = this.#end;
    let end = start;
    let dots: number = self;
    for (const name of this.#sorted(firstNames[directory] ?? 0, firstNames[directory + 1] ?? 0)) {
      checkName(texts, nameStarts[name] ?? 0, nameLengths[name] ?? 0);
      while (dots >= above && isBehindDots(texts, nameStarts[name] ?? 0, nameLengths[name] ?? 0, -dots)) {
        names[end] = dots;
        end += 1;
        dots -= 1;
      }
      names[end] = name;
      end += 1;
    }
    for (; dots >= above; dots -= 1) {
      names[end] = dots;
      end += 1;
    }
    this.#end = end;
    return start;
  }

  get end(): number {
    return this.#end;
  }

  /** Numbers of the names `from` to `to` in their order. Most come in it. */
  #sorted(from: number, to: number): readonly number[] {
    const { texts, nameStarts, nameLengths } = this.#files;
    const compare = (one: number, other: number): number =>
      compareBytes(
        texts,
        nameStarts[one] ?? 0,
        nameLengths[one] ?? 0,
        nameStarts[other] ?? 0,
        nameLengths[other] ?? 0,
      );
    const numbers: number[] = [];
    let isSorted = true;
    for (let name = from; name < to; name += 1) {
      isSorted &&= name === from || compare(name - 1, name) < 0;
      numbers.push(name);
    }
    return isSorted ? numbers : numbers.sort(compare);
  }

  /**
   * How many blocks the names `from` to `to` take, and how much of the last one: each block has its names, and what they
   * stand for, to itself.
   */
  measure(from: number, to: number): number {
    let blocks = 0;
    let usedBytes = 0;
    for (let at = from; at < to; at += 1) {
      const bytes = direntBytes + this.lengthAt(at);
      if (usedBytes + bytes > blockBytes) {
        blocks += 1;
        usedBytes = 0;
      }
      usedBytes += bytes;
    }
    return blocks * blockBytes + usedBytes;
  }

  /** The place of the name behind the last one that goes into the same block as the one at `from`. */
  blockEnd(from: number, to: number): number {
    let usedBytes = 0;
    let at = from;
    for (; at < to; at += 1) {
      usedBytes += direntBytes + this.lengthAt(at);
      if (usedBytes > blockBytes) {
        break;
      }
    }
    return at;
  }

  /** Bytes of the name at that place. */
  lengthAt(at: number): number {
    const name = this.names[at] ?? 0;
    return name < 0 ? -name : (this.#files.nameLengths[name] ?? 0);
  }
}

function compareBytes(
  texts: Buffer,
  start: number,
  length: number,
  otherStart: number,
  otherLength: number,
): number {
  const common = Math.min(length, otherLength);
  for (let at = 0; at < common; at += 1) {
    const difference = (texts[start + at] ?? 0) - (texts[otherStart + at] ?? 0);
    if (difference !== 0) {
      return difference;
    }
  }
  return length - otherLength;
}

/** Whether a name comes behind the one that has so many dots and nothing else. */
function isBehindDots(texts: Buffer, start: number, length: number, dots: number): boolean {
  for (let at = 0; at < dots && at < length; at += 1) {
    const byte = texts[start + at] ?? 0;
    if (byte !== dot) {
      return byte > dot;
    }
  }
  return length > dots;
}

function checkName(texts: Buffer, start: number, length: number): void {
  let isRight = length > 0 && length <= maxNameBytes;
  let isDots = length <= 2;
  for (let at = start; at < start + length; at += 1) {
    const byte = texts[at] ?? 0;
    isRight &&= byte !== slash && byte !== 0;
    isDots &&= byte === dot;
  }
  if (!isRight || isDots) {
    const name = texts.toString("utf8", start, start + length).slice(0, 300);
    throw new InvalidArgumentError(
      `Cannot write file ${JSON.stringify(name)}: it is no name in a directory, want 1 to ${maxNameBytes} bytes without slash and NUL, not "." or ".."`,
    );
  }
}
