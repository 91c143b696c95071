import { type BlockName, compareName, nameAt, namesIn } from "./block-names.ts";
import { type ImageInode, inodeBytes, readInode } from "./inode.ts";
import { inodeSlotBytes } from "./layout.ts";
import { blockBytes } from "./node.ts";
import { readSuperblock } from "./superblock.ts";
import { decodeXattrs, xattrBytes } from "./xattrs.ts";

export type { BlockName } from "./block-names.ts";
export type { ImageInode } from "./inode.ts";

/**
 * Reads an image that `writeImage` has made, all of it in memory: what the kernel does where it can mount EROFS. Files
 * are told by the numbers of their inodes.
 *
 * An image that is damaged makes single files unreadable: methods give undefined, or throw a RangeError where what they
 * want is not in the image.
 */
export class ErofsImage {
  readonly rootInode: number;
  readonly #image: Buffer;
  /** Where the data device begins in the row of blocks. */
  readonly #dataStart: number;

  /** @throws {DataLossError} if it is no image of ours. */
  constructor(image: Buffer) {
    const { rootInode, totalBlocks } = readSuperblock(image);
    this.rootInode = rootInode;
    this.#image = image;
    this.#dataStart = totalBlocks;
  }

  inode(number: number): ImageInode | undefined {
    const offset = number * inodeSlotBytes;
    return offset + inodeBytes > this.#image.length
      ? undefined
      : readInode(this.#image, offset, this.#dataStart);
  }

  /** The inode of the name in bytes `from` to `to` of `name` in the directory `number`; undefined if there is none. */
  lookup(number: number, name: Buffer, from = 0, to = name.length): number | undefined {
    const directory = this.#directory(number);
    if (directory === undefined) {
      return undefined;
    }
    // The last block whose first name does not come behind the name: its is the only one that can have it.
    let [low, high] = [0, Math.ceil(directory.sizeBytes / blockBytes) - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (compareName(this.#block(number, directory, middle), 0, name, from, to) <= 0) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    const block = this.#block(number, directory, low);
    let [first, end] = [0, namesIn(block)];
    while (first < end) {
      const middle = (first + end) >>> 1;
      const order = compareName(block, middle, name, from, to);
      if (order === 0) {
        return nameAt(block, middle).inode;
      }
      if (order < 0) {
        first = middle + 1;
      } else {
        end = middle;
      }
    }
    return undefined;
  }

  /** The names in the directory `number`, from the one numbered `from`, `.` and `..` among them. Undefined if it is none. */
  list(number: number, from = 0): Generator<BlockName> | undefined {
    const directory = this.#directory(number);
    return directory && this.#names(number, directory, from);
  }

  /** Undefined if it is no symbolic link. */
  linkTarget(number: number): Buffer | undefined {
    const inode = this.inode(number);
    if (inode === undefined || !isOfType(inode, 0o120000)) {
      return undefined;
    }
    // It fits in one block, wherever that is.
    return this.#block(number, inode, 0);
  }

  *xattrs(number: number): Generator<{ name: string; value: Buffer }> {
    const inode = this.inode(number);
    if (inode !== undefined && inode.xattrCount > 0) {
      const start = number * inodeSlotBytes + inodeBytes;
      yield* decodeXattrs(this.#image.subarray(start, start + xattrBytes(inode.xattrCount)));
    }
  }

  /** First byte on the data device of the content of a file that has some. */
  dataOffset({ start }: ImageInode): number {
    return (start - this.#dataStart) * blockBytes;
  }

  *#names(number: number, directory: ImageInode, from: number): Generator<BlockName> {
    let skipped = 0;
    for (let index = 0; index * blockBytes < directory.sizeBytes; index += 1) {
      const block = this.#block(number, directory, index);
      const count = namesIn(block);
      for (let name = Math.max(0, from - skipped); name < count; name += 1) {
        yield nameAt(block, name);
      }
      skipped += count;
    }
  }

  #directory(number: number): ImageInode | undefined {
    const inode = this.inode(number);
    return inode !== undefined && isOfType(inode, 0o040000) ? inode : undefined;
  }

  /** Block `index` of what is in the image, the last one as far as it goes. */
  #block(number: number, { sizeBytes, start, isInline, xattrCount }: ImageInode, index: number): Buffer {
    const usedBytes = Math.min(blockBytes, sizeBytes - index * blockBytes);
    const isTail = isInline && index === Math.floor(sizeBytes / blockBytes);
    const offset = isTail
      ? number * inodeSlotBytes + inodeBytes + xattrBytes(xattrCount)
      : (start + index) * blockBytes;
    return this.#image.subarray(offset, offset + usedBytes);
  }
}

const typeMask = 0o170000;

function isOfType({ mode }: ImageInode, type: number): boolean {
  return (mode & typeMask) === type;
}
