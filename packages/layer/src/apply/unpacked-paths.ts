import { lstatSync, realpathSync } from "node:fs";
import { type ByteString, pathOf } from "../tar/byte-string.ts";
import { baseOf, joined, parentOf } from "./entry-path.ts";
import { namesIn, removeTree } from "./remove-tree.ts";
import { codeOf } from "./system-error.ts";

/**
 * What this layer has unpacked so far, so that an opaque marker, which may come at any time, spares it.
 *
 * Where names lead is settled only when a marker asks, because most layers have none, and then once a directory.
 * Nothing is ever written by such a remembered path: it only tells which children of a directory to keep.
 */
export class UnpackedPaths {
  /** As entries name them, not yet resolved. */
  #recent: ByteString[] = [];
  /** Where they are, links resolved, and the directories above them. */
  readonly #resolved = new Set<ByteString>();

  add(path: ByteString): void {
    this.#recent.push(path);
  }

  /**
   * Removes everything in `directory` that this layer has not unpacked: what lower layers have there.
   *
   * @param beforeEach called for every directory; what it throws ends the removal.
   */
  removeOthers(directory: ByteString, beforeEach: () => void): void {
    this.#resolveRecent();
    const resolved = resolve(directory);
    if (resolved !== undefined) {
      this.#removeOthersIn(resolved, beforeEach);
    }
  }

  #removeOthersIn(directory: ByteString, beforeEach: () => void): void {
    for (const name of namesIn(directory, beforeEach)) {
      const path = joined(directory, name);
      if (!this.#resolved.has(path)) {
        removeTree(path, beforeEach);
      } else if (lstatSync(pathOf(path)).isDirectory()) {
        this.#removeOthersIn(path, beforeEach);
      }
    }
  }

  #resolveRecent(): void {
    const directories = new Map<ByteString, ByteString | undefined>();
    for (const path of this.#recent) {
      const parent = parentOf(path);
      if (!directories.has(parent)) {
        directories.set(parent, resolve(parent));
      }
      const directory = directories.get(parent);
      // Where the directory is gone, the path went with it.
      if (directory !== undefined) {
        this.#addWithAncestors(joined(directory, baseOf(path)));
      }
    }
    this.#recent = [];
  }

  #addWithAncestors(path: ByteString): void {
    for (let above = path; above !== "" && !this.#resolved.has(above); above = parentOf(above)) {
      this.#resolved.add(above);
    }
  }
}

/** `directory` without links, relative to the root; undefined if there is no such directory. */
function resolve(directory: ByteString): ByteString | undefined {
  try {
    const path = pathOf(`/${directory}` as ByteString);
    return realpathSync.native(path, { encoding: "latin1" }).slice(1) as ByteString;
  } catch (error) {
    if (codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR") {
      return undefined;
    }
    throw error;
  }
}
