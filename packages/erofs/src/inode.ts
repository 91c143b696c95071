import { type FileTable, typeBits, typeMask } from "./file-table.ts";
import type { Layout } from "./layout.ts";
import { blockBytes } from "./node.ts";
import { xattrBytes, xattrCount } from "./xattrs.ts";

/** Size of the long form, which has 32 bits for owners and times to the nanosecond. */
export const inodeBytes = 64;

/** Bit 0 of the format says that it is the long form. */
const longForm = 1;

/** Where the content is, in bits 1 to 3 (Linux, fs/erofs/erofs_fs.h, EROFS_INODE_*). */
const flatPlain = 0 << 1;
const flatInline = 2 << 1;
const chunkBased = 4 << 1;
const layoutBits = 7 << 1;

/**
 * Of content on the data device an inode has an index: where each chunk of it is. Chunks are as large as can be, 8 TiB, so
 * that one is all of nearly every file. Linux takes what is named by an index to be in a row on its device, and reads it in
 * few requests; content that lies in the one row of blocks that image and device make it reads page by page, because it
 * compares a block's place in that row with the place on the device that it has asked for last (fs/erofs/fileio.c).
 */
const chunkFormat = { blockBits: 31, indexes: 1 << 5 } as const;
const chunkBytes = blockBytes * 2 ** chunkFormat.blockBits;
const chunkIndexBytes = 8;

/** Devices are counted from the image, which is 0. */
const dataDevice = 1;

/** An inode as it is in an image. */
export interface ImageInode {
  /** Type and permissions, as st_mode. */
  readonly mode: number;
  readonly sizeBytes: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly modifiedSeconds: bigint;
  readonly modifiedNanos: number;
  /** First block of the content, in the row that image and data device make; of a device, its number. */
  readonly start: number;
  /** Whether the end of the content, what does not fill a block, follows the inode. */
  readonly isInline: boolean;
  readonly xattrCount: number;
}

/**
 * Reads what {@link InodeWriter} has written at `offset` of `image`; undefined if that is no inode of ours.
 *
 * @param dataStart as {@link ImageInode.start} counts.
 */
export function readInode(image: Buffer, offset: number, dataStart: number): ImageInode | undefined {
  const format = image.readUInt16LE(offset);
  const layout = format & layoutBits;
  const isKnown = layout === flatPlain || layout === flatInline || layout === chunkBased;
  if ((format & longForm) === 0 || !isKnown) {
    return undefined;
  }
  const attributes = image.readUInt16LE(offset + 2);
  return {
    mode: image.readUInt16LE(offset + 4),
    sizeBytes: image.readUInt32LE(offset + 8) + image.readUInt32LE(offset + 12) * 2 ** 32,
    uid: image.readUInt32LE(offset + 24),
    gid: image.readUInt32LE(offset + 28),
    links: image.readUInt32LE(offset + 44),
    modifiedSeconds: image.readBigInt64LE(offset + 32),
    modifiedNanos: image.readUInt32LE(offset + 40),
    start:
      layout === chunkBased
        ? dataStart + image.readUInt32LE(offset + indexOffset(xattrBytes(attributes)) + 4)
        : image.readUInt32LE(offset + 16),
    isInline: layout === flatInline,
    xattrCount: attributes,
  };
}

/** How much follows an inode and its attributes to say where a file of `sizeBytes` is on the data device. */
export function indexBytes(xattrsLength: number, sizeBytes: number): number {
  const padding = indexOffset(xattrsLength) - inodeBytes - xattrsLength;
  return sizeBytes === 0 ? 0 : padding + Math.ceil(sizeBytes / chunkBytes) * chunkIndexBytes;
}

/** From the beginning of the inode. */
function indexOffset(xattrsLength: number): number {
  return Math.ceil((inodeBytes + xattrsLength) / chunkIndexBytes) * chunkIndexBytes;
}

/** Says that there is no first block. */
const noBlock = 0xffffffff;

const wordBytes = 4;

/**
 * Writes inodes into an image, word by word: what a Buffer has for that takes several times as long, and the machines that
 * we run on have the byte order of EROFS.
 */
export class InodeWriter {
  readonly #files: FileTable;
  readonly #layout: Layout;
  readonly #image: Buffer;
  readonly #words: Uint32Array;

  /** @param image at the beginning of its memory; all zeros where inodes go. */
  constructor(files: FileTable, layout: Layout, image: Buffer) {
    this.#files = files;
    this.#layout = layout;
    this.#image = image;
    this.#words = new Uint32Array(image.buffer, image.byteOffset, image.length / wordBytes);
  }

  /**
   * Writes the inode of `file`, its attributes and its index.
   *
   * @param ordinal one more than how many come before it: the number that 32-bit programs see.
   * @returns the first byte behind them.
   */
  write(file: number, ordinal: number, position: number): number {
    const { modes, uids, gids, seconds, nanos, starts } = this.#files;
    const { inlineBytes, sizes, links, xattrs } = this.#layout;
    const words = this.#words;
    const at = position / wordBytes;
    const size = sizes[file] ?? 0;
    const second = seconds[file] ?? 0;
    const encoded = xattrs.size > 0 ? xattrs.get(file) : undefined;
    const isFile = ((modes[file] ?? 0) & typeMask) === typeBits.file && size > 0;
    const form = longForm | (isFile ? chunkBased : inlineBytes[file] === 0 ? flatPlain : flatInline);
    words[at] = form | ((encoded === undefined ? 0 : xattrCount(encoded)) << 16);
    words[at + 1] = modes[file] ?? 0;
    words[at + 2] = size % 2 ** 32;
    words[at + 3] = size / 2 ** 32;
    words[at + 4] = this.#startOf(file);
    words[at + 5] = ordinal;
    words[at + 6] = uids[file] ?? 0;
    words[at + 7] = gids[file] ?? 0;
    // Two's complement, for times before 1970.
    words[at + 8] = second;
    words[at + 9] = Math.floor(second / 2 ** 32);
    words[at + 10] = nanos[file] ?? 0;
    words[at + 11] = links[file] ?? 0;
    if (encoded !== undefined) {
      this.#image.set(encoded, position + inodeBytes);
    }
    const attributeBytes = encoded?.length ?? 0;
    if (isFile) {
      this.#writeIndex(starts[file] ?? 0, size, (position + indexOffset(attributeBytes)) / wordBytes);
      return position + inodeBytes + attributeBytes + indexBytes(attributeBytes, size);
    }
    return position + inodeBytes + attributeBytes;
  }

  #writeIndex(dataBlock: number, sizeBytes: number, at: number): void {
    for (let chunk = 0; chunk * chunkBytes < sizeBytes; chunk += 1) {
      const word = at + (chunk * chunkIndexBytes) / wordBytes;
      this.#words[word] = dataDevice << 16;
      this.#words[word + 1] = dataBlock + chunk * 2 ** chunkFormat.blockBits;
    }
  }

  /** First block of the content, the number of a device, or how the index is to be read. */
  #startOf(file: number): number {
    const { modes, starts } = this.#files;
    const { sizes, blocks, firstBlocks } = this.#layout;
    switch ((modes[file] ?? 0) & typeMask) {
      case typeBits.file:
        return sizes[file] === 0 ? noBlock : chunkFormat.indexes | chunkFormat.blockBits;
      case typeBits["character-device"]:
      case typeBits["block-device"]:
        return starts[file] ?? 0;
      default:
        return blocks[file] === 0 ? noBlock : (firstBlocks[file] ?? 0);
    }
  }
}
