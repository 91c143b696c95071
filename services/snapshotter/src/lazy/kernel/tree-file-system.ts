import type { ErofsImage, ImageInode } from "@oci-worker/erofs/read-image";
import { writeAttributes } from "@oci-worker/fuse/attributes";
import { errno } from "@oci-worker/fuse/errno";
import type { FileSystem, Listed } from "@oci-worker/fuse/file-system";

/**
 * Writes `size` bytes of a layer's data device from `offset` on at `at` of `reply`: like `FileSystem.read`, whose `later` it
 * may give.
 */
export type ReadDevice = (offset: number, size: number, reply: Buffer, at: number, unique: bigint) => number;

/** The files of a layer, as a directory. */
export interface Tree {
  readonly image: ErofsImage;
  readonly read: ReadDevice;
}

export interface TreeFileSystemOptions {
  /**
   * The tree with a number, which is always the same one.
   *
   * @returns undefined if there is none.
   * @throws if there is one that cannot be shown.
   */
  readonly findTree: (number: number) => Tree | undefined;
  readonly onInterrupt: (unique: bigint) => void;
}

/** The node of the root directory (FUSE_ROOT_ID). */
const rootNode = 1;

/**
 * A node is the number of a tree and the number of an inode in its image. Those are in units of 32 bytes, so 26 bits are
 * enough for images of 2 GiB, which no layer within our limits has. 2^53 is where numbers end.
 */
const inodesPerTree = 2 ** 26;

/** So many trees can ever be: see {@link inodesPerTree}. */
export const maxTrees: number = 2 ** 27 - 1;

/** The largest that the protocol has, in seconds: a layer never changes. */
const forever = 2 ** 31 - 1;

const [typeMask, fileType, directoryType] = [0o170000, 0o100000, 0o040000];

/** The type bits of st_mode by the types that EROFS has in directories (Linux, include/linux/fs_types.h). */
const typeBits = [0, fileType, directoryType, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000];

/** Files of these types have a device number where others have the place of their content. */
const deviceTypes: ReadonlySet<number> = new Set([0o020000, 0o060000]);

const rootAttributes = {
  inode: rootNode,
  mode: directoryType | 0o700,
  sizeBytes: 0,
  links: 2,
  uid: 0,
  gid: 0,
  deviceNumber: 0,
  modifiedSeconds: 0n,
  modifiedNanos: 0,
};

/**
 * The files of layers out of their EROFS images, for where the kernel cannot mount those itself: one directory, in it a tree
 * for each time that a layer is mounted, named by its number. Each is to be mounted where it belongs.
 *
 * All of them are one file system, so one thread serves them all. A layer that is mounted twice is two trees, because an
 * overlay refuses to have one directory as two of its layers.
 *
 * Files are opened while nobody serves, and what the kernel has of them is read. So it is never told of another file to read
 * in the place of one: docs/lazy-layers.md says what that would gain, and cost.
 */
export class TreeFileSystem implements FileSystem {
  readonly cache = { seconds: forever, absent: true };
  readonly #options: TreeFileSystemOptions;

  constructor(options: TreeFileSystemOptions) {
    this.#options = options;
  }

  lookup(parent: number, request: Buffer, from: number, to: number): number {
    if (parent === rootNode) {
      return this.#lookupTree(request.toString("latin1", from, to));
    }
    const number = treeOf(parent);
    const inode = this.#tree(number)?.image.lookup(inodeOf(parent), request, from, to);
    return inode === undefined ? 0 : nodeOf(number, inode);
  }

  attributes(node: number, reply: Buffer, at: number): boolean {
    if (node === rootNode) {
      writeAttributes(reply, at, rootAttributes);
      return true;
    }
    const inode = this.#tree(treeOf(node))?.image.inode(inodeOf(node));
    if (inode === undefined) {
      return false;
    }
    const deviceNumber = deviceTypes.has(inode.mode & typeMask) ? inode.start : 0;
    writeAttributes(reply, at, { ...inode, inode: node, deviceNumber });
    return true;
  }

  readLink(node: number, reply: Buffer, at: number): number {
    return this.#tree(treeOf(node))?.image.linkTarget(inodeOf(node))?.copy(reply, at) ?? -errno.EINVAL;
  }

  /** In the root nobody has to look for anything: whoever has made a tree knows its number. */
  list(node: number, from: number): Iterator<Listed> | undefined {
    if (node === rootNode) {
      const names = [".", ".."].map((name) => ({ node, typeBits: directoryType, name: Buffer.from(name) }));
      return names.slice(from).values();
    }
    const number = treeOf(node);
    const names = this.#tree(number)?.image.list(inodeOf(node), from);
    return names?.map(({ inode, fileType: type, name }) => ({
      node: nodeOf(number, inode),
      typeBits: typeBits[type] ?? 0,
      name,
    }));
  }

  xattr(node: number, name: string): Uint8Array | undefined {
    return this.#xattrs(node).find((each) => each.name === name)?.value;
  }

  xattrNames(node: number): readonly string[] {
    return [...this.#xattrs(node).map(({ name }) => name)];
  }

  read(node: number, offset: number, size: number, reply: Buffer, at: number, unique: bigint): number {
    const tree = this.#tree(treeOf(node));
    const inode = tree?.image.inode(inodeOf(node));
    if (tree === undefined || inode === undefined || !isFile(inode)) {
      return -errno.EIO;
    }
    const wanted = Math.min(size, inode.sizeBytes - offset);
    return wanted <= 0 ? 0 : tree.read(tree.image.dataOffset(inode) + offset, wanted, reply, at, unique);
  }

  interrupt(unique: bigint): void {
    this.#options.onInterrupt(unique);
  }

  #lookupTree(name: string): number {
    const number = /^[1-9]\d{0,8}$/.test(name) ? Number(name) : 0;
    const tree = this.#tree(number);
    // An error, unlike "there is no such name", is not remembered: there may be one later.
    return tree === undefined ? -errno.ENOENT : nodeOf(number, tree.image.rootInode);
  }

  #tree(number: number): Tree | undefined {
    return number >= 1 && number <= maxTrees ? this.#options.findTree(number) : undefined;
  }

  #xattrs(node: number): IteratorObject<{ readonly name: string; readonly value: Buffer }> {
    return this.#tree(treeOf(node))?.image.xattrs(inodeOf(node)) ?? Iterator.from([]);
  }
}

function nodeOf(tree: number, inode: number): number {
  return tree * inodesPerTree + inode;
}

function treeOf(node: number): number {
  return Math.floor(node / inodesPerTree);
}

function inodeOf(node: number): number {
  return node % inodesPerTree;
}

function isFile({ mode }: ImageInode): boolean {
  return (mode & typeMask) === fileType;
}
