import { type BigIntStats, closeSync, constants, lstatSync, openSync, readlinkSync, readSync } from "node:fs";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { splitDevice } from "@oci-worker/libc/file";
import { whiteoutPrefix } from "../apply/whiteout.ts";
import { byteString, quoted } from "../tar/byte-string.ts";
import { type TarMember, writeTar } from "../tar/writer.ts";
import { compareTrees, type Trees } from "./compare-trees.ts";
import { layerXattrs } from "./layer-xattrs.ts";
import { entryType } from "./same-entry.ts";

/** What is read of a file at once. */
const pieceBytes = 256 * 1024;

/**
 * The layer that makes `upper` of `lower`: a tar archive, in pieces (OCI image-spec, layer.md, "Representing Changes").
 *
 * The same trees give the same bytes: entries are in the order of their names, directories before what is in them, without
 * names of users. Each entry comes with the directories that it is in, so that unpackers find their owners and modes. Times
 * are whole seconds, as in everybody's layers. Sockets are left out: archives have none.
 *
 * Reads files with calls that block: for a thread that has nothing else to do.
 *
 * @throws {InvalidArgumentError} if a file has a name that layers give to what was deleted.
 * @throws the reason of `signal` once that is aborted.
 */
export function layerArchive(trees: Trees, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  return writeTar(membersOf(trees, signal));
}

async function* membersOf(trees: Trees, signal: AbortSignal): AsyncGenerator<TarMember> {
  const { changes, relinked } = await changesOf(trees, signal);
  const members = new Members(trees.upper);
  for (const { path, isDeleted } of changes) {
    signal.throwIfAborted();
    yield* members.parentsOf(path);
    const member = isDeleted ? whiteout(path) : members.at(path);
    if (member !== undefined) {
      yield member;
    }
  }
  for (const path of relinked) {
    yield* members.parentsOf(path);
    const member = members.at(path);
    if (member !== undefined) {
      yield member;
    }
  }
}

interface PlannedChange {
  readonly path: Buffer;
  readonly isDeleted: boolean;
}

/**
 * What goes into the layer: what has changed, and files that have not but have a new name. That has to be a hard link, and in
 * a layer by itself only to a file of that layer.
 */
async function changesOf(
  trees: Trees,
  signal: AbortSignal,
): Promise<{ readonly changes: readonly PlannedChange[]; readonly relinked: readonly Buffer[] }> {
  const changes: PlannedChange[] = [];
  const changedFiles = new Set<string>();
  const unchangedLinks: { readonly path: Buffer; readonly file: string }[] = [];
  const onUnchanged = (path: Buffer, stat: BigIntStats) => {
    if (hasSeveralNames(stat)) {
      unchangedLinks.push({ path, file: fileOf(stat) });
    }
  };
  for await (const { kind, path } of compareTrees(trees, signal, onUnchanged)) {
    changes.push({ path, isDeleted: kind === "D" });
    const stat = kind === "D" ? undefined : lstatSync(within(trees.upper, path), { bigint: true });
    if (stat !== undefined && hasSeveralNames(stat)) {
      changedFiles.add(fileOf(stat));
    }
  }
  const relinked = unchangedLinks.filter(({ file }) => changedFiles.has(file)).map(({ path }) => path);
  return { changes, relinked };
}

/** Makes entries of what is in a tree. */
class Members {
  readonly #root: string;
  /** Directories that have their entry. */
  readonly #written = new Set<string>([""]);
  /** Files with several names, and the name under which they were written. */
  readonly #firstNames = new Map<string, Buffer>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Entries of the directories that `path` is in, of those that have none yet. */
  *parentsOf(path: Buffer): Generator<TarMember> {
    for (let end = path.indexOf(slash); end !== -1; end = path.indexOf(slash, end + 1)) {
      const parent = path.subarray(0, end);
      if (!this.#written.has(parent.toString("latin1"))) {
        const member = this.at(parent);
        if (member !== undefined) {
          yield member;
        }
      }
    }
  }

  /** The entry of what is at `path`; undefined for what an archive cannot hold. */
  at(path: Buffer): TarMember | undefined {
    const full = within(this.#root, path);
    const stat = lstatSync(full, { bigint: true });
    const type = entryType(stat);
    requireOrdinaryName(path);
    if (type === "directory") {
      this.#written.add(path.toString("latin1"));
    }
    const name = path.length === 0 ? "." : path;
    const first = this.#linkedTo(path, stat);
    if (first !== undefined) {
      return { ...metadataOf(stat), type: "hard link", name, linkName: first };
    }
    const common = { ...metadataOf(stat), name, xattrs: layerXattrs(full) };
    switch (type) {
      case "file":
        return { ...common, type, sizeBytes: Number(stat.size), content: contentOf(full) };
      case "symlink":
        return { ...common, type, linkName: readlinkSync(full, { encoding: "buffer" }) };
      case "character device":
      case "block device": {
        const { major, minor } = splitDevice(stat.rdev);
        return { ...common, type, deviceMajor: major, deviceMinor: minor };
      }
      case "directory":
      case "fifo":
        return { ...common, type };
      case "socket":
        return undefined;
    }
  }

  /** The name under which the file of `path` has been written already. */
  #linkedTo(path: Buffer, stat: BigIntStats): Buffer | undefined {
    if (!hasSeveralNames(stat)) {
      return undefined;
    }
    const first = this.#firstNames.get(fileOf(stat));
    if (first === undefined) {
      this.#firstNames.set(fileOf(stat), path);
    }
    return first;
  }
}

const slash = "/".charCodeAt(0);

function metadataOf({ mode, uid, gid, mtimeNs }: BigIntStats) {
  return { mode: Number(mode & 0o7777n), uid: Number(uid), gid: Number(gid), modifiedNs: mtimeNs };
}

function whiteout(path: Buffer): TarMember {
  requireOrdinaryName(path);
  const base = path.lastIndexOf(slash) + 1;
  const name = Buffer.concat([path.subarray(0, base), Buffer.from(whiteoutPrefix), path.subarray(base)]);
  return { type: "file", name, mode: 0, sizeBytes: 0 };
}

function requireOrdinaryName(path: Buffer): void {
  if (path.toString("latin1", path.lastIndexOf(slash) + 1).startsWith(whiteoutPrefix)) {
    throw new InvalidArgumentError(
      `Cannot make a layer with ${quoted(byteString(path))}: its name begins with ${whiteoutPrefix}, which in layers says that something is deleted`,
    );
  }
}

function* contentOf(path: Buffer): Generator<Uint8Array> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    for (;;) {
      const piece = Buffer.allocUnsafe(pieceBytes);
      const length = readSync(fd, piece);
      if (length === 0) {
        return;
      }
      yield piece.subarray(0, length);
    }
  } finally {
    closeSync(fd);
  }
}

function within(root: string, path: Buffer): Buffer {
  return path.length === 0 ? Buffer.from(root) : Buffer.concat([Buffer.from(`${root}/`), path]);
}

function hasSeveralNames(stat: BigIntStats): boolean {
  return stat.nlink > 1n && !stat.isDirectory() && !stat.isSocket();
}

function fileOf({ dev, ino }: BigIntStats): string {
  return `${dev} ${ino}`;
}
