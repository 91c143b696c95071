import type { ErofsImage, ImageInode } from "@oci-worker/erofs/read-image";
import { writeAttributes } from "@oci-worker/fuse/attributes";
import { errno } from "@oci-worker/fuse/errno";
import type { FileSystem, Listed } from "@oci-worker/fuse/file-system";

/**
 * Writes `size` bytes of a layer's data device from `offset` on at `at` of `reply`: like `FileSystem.read`, whose `later` it
 * may give.
 */
export type ReadDevice = (offset: number, size: number, reply: Buffer, at: number, unique: bigint) => number;

export interface ImageFileSystemOptions {
  readonly read: ReadDevice;
  readonly onInterrupt: (unique: bigint) => void;
}

/** The node of the root directory (FUSE_ROOT_ID). */
const rootNode = 1;

/** The largest that the protocol has, in seconds: a layer never changes. */
const forever = 2 ** 31 - 1;

const [typeMask, fileType] = [0o170000, 0o100000];

/** The type bits of st_mode by the types that EROFS has in directories (Linux, include/linux/fs_types.h). */
const typeBits = [0, 0o100000, 0o040000, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000];

/** Files of these types have a device number where others have the place of their content. */
const deviceTypes: ReadonlySet<number> = new Set([0o020000, 0o060000]);

/**
 * The files of a layer out of its EROFS image, for where the kernel cannot mount that itself. A node is the number of the
 * inode; only the root has another one.
 */
export class ImageFileSystem implements FileSystem {
  readonly cache = { seconds: forever, absent: true };
  readonly #image: ErofsImage;
  readonly #options: ImageFileSystemOptions;

  constructor(image: ErofsImage, options: ImageFileSystemOptions) {
    this.#image = image;
    this.#options = options;
  }

  lookup(parent: number, request: Buffer, from: number, to: number): number {
    const inode = this.#image.lookup(this.#inodeOf(parent), request, from, to);
    return inode === undefined ? 0 : this.#nodeOf(inode);
  }

  attributes(node: number, reply: Buffer, at: number): boolean {
    const number = this.#inodeOf(node);
    const inode = this.#image.inode(number);
    if (inode === undefined) {
      return false;
    }
    const deviceNumber = deviceTypes.has(inode.mode & typeMask) ? inode.start : 0;
    writeAttributes(reply, at, { ...inode, inode: number, deviceNumber });
    return true;
  }

  readLink(node: number, reply: Buffer, at: number): number {
    return this.#image.linkTarget(this.#inodeOf(node))?.copy(reply, at) ?? -errno.EINVAL;
  }

  list(node: number, from: number): Iterator<Listed> | undefined {
    return this.#image.list(this.#inodeOf(node), from)?.map(({ inode, fileType: type, name }) => ({
      node: this.#nodeOf(inode),
      typeBits: typeBits[type] ?? 0,
      name,
    }));
  }

  xattr(node: number, name: string): Uint8Array | undefined {
    return this.#image.xattrs(this.#inodeOf(node)).find((each) => each.name === name)?.value;
  }

  xattrNames(node: number): readonly string[] {
    return [...this.#image.xattrs(this.#inodeOf(node))].map(({ name }) => name);
  }

  read(node: number, offset: number, size: number, reply: Buffer, at: number, unique: bigint): number {
    const inode = this.#image.inode(this.#inodeOf(node));
    if (inode === undefined || !isFile(inode)) {
      return -errno.EIO;
    }
    const wanted = Math.min(size, inode.sizeBytes - offset);
    return wanted <= 0
      ? 0
      : this.#options.read(this.#image.dataOffset(inode) + offset, wanted, reply, at, unique);
  }

  interrupt(unique: bigint): void {
    this.#options.onInterrupt(unique);
  }

  #inodeOf(node: number): number {
    return node === rootNode ? this.#image.rootInode : node;
  }

  #nodeOf(inode: number): number {
    return inode === this.#image.rootInode ? rootNode : inode;
  }
}

function isFile({ mode }: ImageInode): boolean {
  return (mode & typeMask) === fileType;
}
