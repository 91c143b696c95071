import { type BigIntStats, lstatSync, readdirSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { Change, ChangeKind } from "./change.ts";
import { entryType, isSame } from "./same-entry.ts";
import { failedWith, isWholeDirectory } from "./upper-directory.ts";

/** Two trees to compare. */
export interface Trees {
  /** The tree as it was; undefined for an empty one. */
  readonly lower: string | undefined;
  /** The tree as it is. */
  readonly upper: string;
  /**
   * The upper directory of overlayfs that makes `upper` of `lower`. It only says where there is something to compare, so that
   * what whiteouts and the like mean is left to the kernel. Undefined: everything is compared.
   */
  readonly touched: string | undefined;
}

/** A place in the trees, the same in each of them; undefined where that has no such directory. */
interface Place {
  readonly path: Buffer;
  readonly lower: Buffer | undefined;
  readonly upper: Buffer | undefined;
  readonly touched: Buffer | undefined;
}

const slash = Buffer.from("/");

/** Told of an entry that is the same in both trees, with what it is in the upper one. */
export type OnUnchanged = (path: Buffer, stat: BigIntStats) => void;

/**
 * What differs between two trees, each directory before what is in it, the names of one directory in the order of their
 * bytes.
 *
 * Of a deleted directory only the top is told. A directory has not changed because something in it has.
 *
 * @param onUnchanged told, in the same order, of whatever was looked at and has not changed.
 * @throws the reason of `signal` once that is aborted.
 */
export async function* compareTrees(
  { lower, upper, touched }: Trees,
  signal: AbortSignal,
  onUnchanged: OnUnchanged = () => undefined,
): AsyncGenerator<Change> {
  const bytes = (path: string | undefined) => (path === undefined ? undefined : Buffer.from(path));
  const top: Place = {
    path: Buffer.alloc(0),
    lower: bytes(lower),
    upper: bytes(upper),
    touched: bytes(touched),
  };
  if (lower !== undefined) {
    const [was, is] = [statOf(top.lower), statOf(top.upper)];
    if (was !== undefined && is !== undefined && !isSame(Buffer.from(lower), was, Buffer.from(upper), is)) {
      yield change("C", top.path, is);
    }
  }
  yield* compareDirectories(top, signal, onUnchanged);
}

async function* compareDirectories(
  place: Place,
  signal: AbortSignal,
  onUnchanged: OnUnchanged,
): AsyncGenerator<Change> {
  // Directories are read with synchronous calls; signals and other work have their turn in between.
  await setImmediate();
  signal.throwIfAborted();
  for (const name of namesIn(place)) {
    const next = placeOf(place, name);
    const [was, is] = [statOf(next.lower), statOf(next.upper)];
    if (is === undefined) {
      if (was !== undefined) {
        yield change("D", next.path, was);
      }
      continue;
    }
    if (was === undefined) {
      yield change("A", next.path, is);
    } else if (next.lower !== undefined && next.upper !== undefined) {
      if (isSame(next.lower, was, next.upper, is)) {
        onUnchanged(next.path, is);
      } else {
        yield change("C", next.path, is);
      }
    }
    if (is.isDirectory()) {
      const wasDirectory = was?.isDirectory() === true;
      const isLimited = wasDirectory && next.touched !== undefined && !isWholeDirectory(next.touched);
      yield* compareDirectories(
        {
          ...next,
          lower: wasDirectory ? next.lower : undefined,
          touched: isLimited ? next.touched : undefined,
        },
        signal,
        onUnchanged,
      );
    }
  }
}

/** Names that have to be looked at, sorted. */
function namesIn({ lower, upper, touched }: Place): Buffer[] {
  const names = touched === undefined ? [...read(lower), ...read(upper)] : read(touched);
  const sorted = names.sort(Buffer.compare);
  return sorted.filter((name, index) => index === 0 || !name.equals(sorted[index - 1] ?? name));
}

function read(directory: Buffer | undefined): Buffer[] {
  return directory === undefined ? [] : (readdirSync(directory, { encoding: "buffer" }) as Buffer[]);
}

function placeOf({ path, lower, upper, touched }: Place, name: Buffer): Place {
  const below = (directory: Buffer | undefined) =>
    directory === undefined ? undefined : Buffer.concat([directory, slash, name]);
  return {
    path: path.length === 0 ? name : Buffer.concat([path, slash, name]),
    lower: below(lower),
    upper: below(upper),
    touched: below(touched),
  };
}

function statOf(path: Buffer | undefined): BigIntStats | undefined {
  if (path === undefined) {
    return undefined;
  }
  try {
    return lstatSync(path, { bigint: true });
  } catch (error) {
    // Also what was deleted while we looked.
    if (failedWith(error, "ENOENT") || failedWith(error, "ENOTDIR")) {
      return undefined;
    }
    throw error;
  }
}

function change(kind: ChangeKind, path: Buffer, stat: BigIntStats): Change {
  return {
    kind,
    path,
    type: entryType(stat),
    mode: Number(stat.mode & 0o7777n),
    sizeBytes: stat.isFile() ? Number(stat.size) : 0,
  };
}
