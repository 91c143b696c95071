import { InvalidArgumentError } from "@oci-worker/errdefs";

/** PATH_MAX without its NUL, and NAME_MAX, in bytes (linux/limits.h). */
const maxPathBytes = 4095;
const maxNameBytes = 255;

/**
 * The order of entries in a transfer: that of their UTF-8 bytes, but "/" comes before all else, so that what is in a
 * directory comes right after it and not after siblings such as "a-b".
 *
 * @returns below 0 if `a` comes first, 0 if they are equal.
 */
export function comparePaths(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const [left, right] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (left !== right) {
      return rank(left) - rank(right);
    }
  }
  return a.length - b.length;
}

const slash = 0x2f;

/**
 * JavaScript compares UTF-16: there the two halves of characters beyond U+FFFF come before U+E000, in UTF-8 such
 * characters come last.
 */
function rank(unit: number): number {
  if (unit === slash) {
    return -1;
  }
  if (unit < 0xd800) {
    return unit;
  }
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}

/** The directory that holds `path`; empty for the top. */
export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/**
 * Checks that `path` names something inside the tree: relative, without empty, "." and ".." parts, of a length that the
 * kernel takes.
 *
 * @throws {InvalidArgumentError}
 */
export function requireCleanPath(path: string): void {
  const parts = path.split("/");
  if (path.includes("\0") || parts.some((part) => part === "" || part === "." || part === "..")) {
    throw new InvalidArgumentError("its path is not clean and relative");
  }
  if (
    Buffer.byteLength(path) > maxPathBytes ||
    parts.some((part) => Buffer.byteLength(part) > maxNameBytes)
  ) {
    throw new InvalidArgumentError(
      `its path is too long, want at most ${maxPathBytes} bytes, ${maxNameBytes} in each part`,
    );
  }
}

/** Checks entries as they come: in order, none twice, each in a directory that came before it. */
export class EntryOrder {
  #previous = "";
  /** The last directory and those it is in, outermost first. */
  #directories: string[] = [];

  /** @throws {InvalidArgumentError} if `path` may not come next. */
  add(path: string, isDirectory: boolean): void {
    if (this.#previous !== "" && comparePaths(this.#previous, path) >= 0) {
      throw new InvalidArgumentError(`it comes after ${JSON.stringify(this.#previous)}, out of order`);
    }
    const parent = parentOf(path);
    const depth = parent === "" ? 0 : this.#directories.lastIndexOf(parent) + 1;
    if (parent !== "" && depth === 0) {
      throw new InvalidArgumentError("no directory came before it that it could be in");
    }
    this.#directories.length = depth;
    if (isDirectory) {
      this.#directories.push(path);
    }
    this.#previous = path;
  }
}
