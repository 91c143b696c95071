import { type BigIntStats, lstatSync } from "node:fs";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import type { Usage } from "@oci-worker/snapshots/snapshotter";
import { type Entry, failedWith, maxDepth, OpenDirectory } from "./open-directory.ts";

/** Unit of `st_blocks`, whatever the file system's own blocks are (stat(3type)). */
const blockBytes = 512n;

export interface MeasureOptions {
  /** Gives up once so many entries have been met. */
  readonly maxEntries: number;
  /** Called for each directory; ends the walk by throwing. */
  readonly onDirectory: () => void;
}

/**
 * Measures the tree at `path`: its distinct inodes, the top directory among them, and the blocks they take up.
 *
 * What vanishes during the walk is not counted; mounts in the tree are not entered.
 *
 * @returns undefined if there is more than `maxEntries`.
 * @throws ENOENT if there is nothing at `path`.
 */
export function measureTree(path: string, { maxEntries, onDirectory }: MeasureOptions): Usage | undefined {
  let entries = 0;
  let inodes = 0n;
  let blocks = 0n;
  /** Files with several names that were met already: device and inode, as text. */
  const linked = new Set<string>();

  const count = (stat: BigIntStats): void => {
    if (stat.nlink > 1n && !stat.isDirectory()) {
      const identity = `${stat.dev}:${stat.ino}`;
      if (linked.has(identity)) {
        return;
      }
      linked.add(identity);
    }
    inodes += 1n;
    blocks += stat.blocks;
  };

  const measure = (directory: OpenDirectory, device: bigint, depth: number): boolean => {
    onDirectory();
    for (const entry of directory.entries()) {
      entries += 1;
      if (entries > maxEntries || !measureEntry(directory, entry, device, depth)) {
        return false;
      }
    }
    return true;
  };

  const measureEntry = (parent: OpenDirectory, entry: Entry, device: bigint, depth: number): boolean => {
    try {
      if (!entry.isDirectory()) {
        count(lstatSync(parent.pathOf(entry.name), { bigint: true }));
        return true;
      }
      using directory = new OpenDirectory(parent.pathOf(entry.name));
      const stat = directory.stat();
      if (stat.dev !== device) {
        return true;
      }
      if (depth === maxDepth) {
        throw new ResourceExhaustedError(
          `Cannot measure ${path}: its directories nest deeper than ${maxDepth}`,
        );
      }
      count(stat);
      return measure(directory, device, depth + 1);
    } catch (error) {
      // Gone, or replaced by something else, since the directory was read.
      if (failedWith(error, "ENOENT") || failedWith(error, "ENOTDIR") || failedWith(error, "ELOOP")) {
        return true;
      }
      throw error;
    }
  };

  using top = new OpenDirectory(path);
  const stat = top.stat();
  count(stat);
  return measure(top, stat.dev, 1) ? { inodes, sizeBytes: blocks * blockBytes } : undefined;
}
