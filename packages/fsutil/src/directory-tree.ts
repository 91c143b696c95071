import { type BigIntStats, constants, lstatSync, readdirSync, readlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { type Stat, StatSchema } from "@oci-worker/api/session/fsutil";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { splitDevice } from "@oci-worker/libc/file";
import { goMode, typeOfStatMode } from "./mode.ts";
import { comparePaths } from "./path.ts";
import { readXattrs } from "./xattrs.ts";

/** A tree to be sent. */
export interface FileTree {
  /** Its entries in the order of the protocol. */
  entries(): Iterable<Stat>;
  /** The content of a file among them, in chunks that are not used again. */
  read(path: string): AsyncIterable<Uint8Array>;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Says of each entry whether it is sent.
 *
 * `skip` leaves out the entry alone: what is in a directory is still looked at, and the directory is sent after all if
 * any of it is. `prune` leaves out everything beneath, too, and `alone` that only.
 */
export type WalkFilter = (path: string, isDirectory: boolean) => "send" | "skip" | "prune" | "alone";

export interface DirectoryTreeOptions {
  readonly filter?: WalkFilter;
  /** Told to the receiver in place of the real owners. */
  readonly owner?: Owner;
}

/** Bytes read at a time; a file that is smaller is read at once. */
const readBytes = 256 * 1024;

/**
 * The tree of the directory `root`, as it is when it is walked. Sockets are left out: they are nothing without the
 * process that made them.
 *
 * The calls that walk are synchronous, because each takes microseconds and there are very many; content is read in the
 * background.
 */
export function directoryTree(root: string, options: DirectoryTreeOptions = {}): FileTree {
  return { entries: () => walk(root, options), read: (path) => read(root, path) };
}

/** A directory that the walk is in. */
interface Level {
  /** Relative to the root, ending in "/" but for the root itself. */
  readonly prefix: string;
  readonly names: readonly string[];
  next: number;
  /** The directory's own entry, as long as it has been skipped. */
  unsent: Stat | undefined;
}

function* walk(root: string, { filter, owner }: DirectoryTreeOptions): Generator<Stat> {
  const firstPaths = new Map<string, string>();
  const levels: Level[] = [{ prefix: "", names: namesIn(root, ""), next: 0, unsent: undefined }];
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const name = level.names[level.next];
    if (name === undefined) {
      levels.pop();
      continue;
    }
    level.next += 1;
    const path = level.prefix + name;
    const stats = lstatSync(join(root, path), { bigint: true, throwIfNoEntry: false });
    const type = stats && typeOfStatMode(Number(stats.mode));
    if (stats === undefined || type === undefined) {
      // It went away since its directory was read, or it is a socket.
      continue;
    }
    const isDirectory = type === "directory";
    const decision = filter?.(path, isDirectory) ?? "send";
    if (decision === "prune" || (decision === "skip" && !isDirectory)) {
      continue;
    }
    const stat = describe(root, path, stats, owner);
    if (decision === "send" || decision === "alone") {
      yield* sendSkippedParents(levels);
      if (type === "file" && stats.nlink > 1n) {
        linkToFirst(stat, stats, firstPaths);
      }
      yield stat;
    }
    if (isDirectory && decision !== "alone") {
      const unsent = decision === "send" ? undefined : stat;
      levels.push({ prefix: `${path}/`, names: namesIn(root, path), next: 0, unsent });
    }
  }
}

/** The directories around an entry come before it, also those that the filter would not have sent for themselves. */
function* sendSkippedParents(levels: readonly Level[]): Generator<Stat> {
  for (const level of levels) {
    if (level.unsent !== undefined) {
      yield level.unsent;
      level.unsent = undefined;
    }
  }
}

/** Makes the second and every later name of a file a link to the first that was sent. */
function linkToFirst(stat: Stat, { dev, ino }: BigIntStats, firstPaths: Map<string, string>): void {
  const inode = `${dev}:${ino}`;
  const first = firstPaths.get(inode);
  if (first === undefined) {
    firstPaths.set(inode, stat.path);
  } else {
    stat.linkname = first;
    stat.size = 0n;
  }
}

/** One entry by itself: what is at `fullPath`, a link not followed, under the name `path`. */
export function entryOf(fullPath: string, path: string): Stat {
  const stats = lstatSync(fullPath, { bigint: true });
  return { ...describe(dirname(fullPath), basename(fullPath), stats, undefined), path };
}

function describe(root: string, path: string, stats: BigIntStats, owner: Owner | undefined): Stat {
  const fullPath = join(root, path);
  const mode = Number(stats.mode);
  const type = typeOfStatMode(mode) ?? "file";
  const isDevice = type === "character-device" || type === "block-device";
  const { major, minor } = splitDevice(isDevice ? stats.rdev : 0n);
  return create(StatSchema, {
    path,
    mode: goMode(type, mode),
    uid: owner?.uid ?? Number(stats.uid),
    gid: owner?.gid ?? Number(stats.gid),
    size: type === "directory" ? 0n : stats.size,
    modTime: stats.mtimeNs,
    linkname: type === "symlink" ? readlinkSync(fullPath) : "",
    devmajor: BigInt(major),
    devminor: BigInt(minor),
    xattrs: readXattrs(fullPath),
  });
}

/** The names in a directory, in the order of the protocol. */
function namesIn(root: string, path: string): string[] {
  const names = readdirSync(join(root, path));
  // This character is what bytes that are no UTF-8 become; a name may also really hold it.
  if (names.some((name) => name.includes("\ufffd"))) {
    requireUtf8(root, path);
  }
  return names.sort(comparePaths);
}

function requireUtf8(root: string, path: string): void {
  const names = readdirSync(join(root, path), { encoding: "buffer" });
  const bad = names.find((name) => !Buffer.from(name.toString()).equals(name));
  if (bad !== undefined) {
    const shown = `${JSON.stringify(bad.toString())} in ${JSON.stringify(path || ".")}`;
    throw new InvalidArgumentError(`Cannot send ${shown}: its name is no UTF-8, which the protocol wants`);
  }
}

async function* read(root: string, path: string): AsyncGenerator<Uint8Array> {
  // A pipe or a device in the place of the file must not make us wait for its other end.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  await using file = await open(join(root, path), flags);
  const stats = await file.stat();
  if (!stats.isFile()) {
    throw new InvalidArgumentError(`Cannot read ${JSON.stringify(path)}: it is no file any more`);
  }
  // One byte more than there should be, so that a file that fits is known to have ended after one read.
  const bytes = Math.min(readBytes, stats.size + 1);
  for (let full = true; full; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(bytes));
    if (bytesRead > 0) {
      yield buffer.subarray(0, bytesRead);
    }
    full = bytesRead === bytes;
  }
}
