import { type BigIntStats, closeSync, openSync, readlinkSync, readSync } from "node:fs";
import type { EntryType } from "./change.ts";
import { layerXattrs } from "./layer-xattrs.ts";

const nanosPerSecond = 1_000_000_000n;

const pieceBytes = 256 * 1024;

/**
 * Whether two entries of the same name count as unchanged: type, mode, owner, device number, extended attributes, and of what
 * is no directory size and time of modification. That is what containerd compares to make a layer, but for attributes, of which
 * it only knows capabilities.
 *
 * Times in whole seconds prove nothing, because archives have no others: there the content decides.
 */
export function isSame(lower: Buffer, was: BigIntStats, upper: Buffer, is: BigIntStats): boolean {
  if (was.mode !== is.mode || was.uid !== is.uid || was.gid !== is.gid || was.rdev !== is.rdev) {
    return false;
  }
  if (!hasSameXattrs(lower, upper)) {
    return false;
  }
  if (is.isDirectory()) {
    return true;
  }
  if (was.size !== is.size || was.mtimeNs !== is.mtimeNs) {
    return false;
  }
  if (is.mtimeNs % nanosPerSecond !== 0n) {
    return true;
  }
  if (is.isSymbolicLink()) {
    return readlinkSync(lower, { encoding: "buffer" }).equals(readlinkSync(upper, { encoding: "buffer" }));
  }
  return !is.isFile() || hasSameContent(lower, upper);
}

export function entryType(stat: BigIntStats): EntryType {
  if (stat.isDirectory()) {
    return "directory";
  }
  if (stat.isSymbolicLink()) {
    return "symlink";
  }
  if (stat.isCharacterDevice()) {
    return "character device";
  }
  if (stat.isBlockDevice()) {
    return "block device";
  }
  if (stat.isFIFO()) {
    return "fifo";
  }
  return stat.isSocket() ? "socket" : "file";
}

function hasSameXattrs(one: Buffer, other: Buffer): boolean {
  const [ones, others] = [layerXattrs(one), layerXattrs(other)];
  const names = Object.keys(ones);
  return (
    names.length === Object.keys(others).length &&
    names.every((name) => others[name] !== undefined && ones[name]?.equals(others[name]) === true)
  );
}

function hasSameContent(one: Buffer, other: Buffer): boolean {
  using stack = new DisposableStack();
  const open = (path: Buffer): number => {
    const fd = openSync(path, "r");
    stack.defer(() => closeSync(fd));
    return fd;
  };
  const [oneFd, otherFd] = [open(one), open(other)];
  const [onePiece, otherPiece] = [Buffer.alloc(pieceBytes), Buffer.alloc(pieceBytes)];
  for (;;) {
    const length = readSync(oneFd, onePiece);
    if (length !== readSync(otherFd, otherPiece)) {
      return false;
    }
    if (length === 0) {
      return true;
    }
    if (Buffer.compare(onePiece.subarray(0, length), otherPiece.subarray(0, length)) !== 0) {
      return false;
    }
  }
}
