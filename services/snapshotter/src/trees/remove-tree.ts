import { renameSync, rmdirSync, unlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { failedWith, OpenDirectory } from "./open-directory.ts";

/** Each level of a tree holds a descriptor; what is deeper is moved up first. */
const maxLevels = 256;

/**
 * Deletes the directory `path` and everything in it, following no symbolic link and entering no other file system.
 *
 * Nothing at `path` is fine: it is gone then. A tree that nests very deep is taken apart: parts of it stand beside
 * `path` for a moment, named after it.
 *
 * @param onEntry called before each entry is deleted; ends the deletion by throwing, with the rest still there.
 * @throws {FailedPreconditionError} at a mount of another file system in the tree.
 */
export function removeTree(path: string, onEntry: () => void): void {
  using parent = new OpenDirectory(dirname(path));
  const device = parent.stat().dev;
  const name = basename(path);
  /** Directories in `parent` that are still to be deleted. */
  const names = [Buffer.from(name)];
  let moved = 0;

  const remove = (from: OpenDirectory, each: Buffer, level: number): void => {
    if (level === maxLevels) {
      moved += 1;
      const beside = Buffer.from(`${name}-${moved}`);
      renameSync(from.pathOf(each), parent.pathOf(beside));
      names.push(beside);
      return;
    }
    onEntry();
    removeEntries(from.pathOf(each), level);
    rmdirSync(from.pathOf(each));
  };

  const removeEntries = (at: Buffer, level: number): void => {
    using directory = new OpenDirectory(at);
    if (directory.stat().dev !== device) {
      throw new FailedPreconditionError(
        `Cannot delete ${path}: another file system is mounted in it, want that unmounted first`,
      );
    }
    for (const entry of directory.entries()) {
      if (entry.isDirectory()) {
        remove(directory, entry.name, level + 1);
      } else {
        onEntry();
        unlinkSync(directory.pathOf(entry.name));
      }
    }
  };

  for (let next = names.pop(); next !== undefined; next = names.pop()) {
    try {
      remove(parent, next, 0);
    } catch (error) {
      if (!failedWith(error, "ENOENT") || exists(parent, next)) {
        throw error;
      }
    }
  }
}

/** Whether the directory `name` is there. */
function exists(parent: OpenDirectory, name: Buffer): boolean {
  try {
    new OpenDirectory(parent.pathOf(name))[Symbol.dispose]();
    return true;
  } catch {
    return false;
  }
}
