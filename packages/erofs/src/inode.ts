import type { Placed } from "./layout.ts";
import { blockBytes, type Node } from "./node.ts";
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
 * Reads what {@link writeInode} has written at `offset` of `image`; undefined if that is no inode of ours.
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

const nanosPerSecond = 1_000_000_000n;

/** File types of st_mode (inode(7)). */
const typeBits = {
  file: 0o100000,
  directory: 0o040000,
  "character-device": 0o020000,
  "block-device": 0o060000,
  fifo: 0o010000,
  socket: 0o140000,
  "symbolic-link": 0o120000,
} as const satisfies Record<Node["kind"], number>;

/** Writes the inode, its attributes and its index at `offset` of `target`, which is all zeros there. */
export function writeInode(inode: Placed, target: Buffer, offset: number): void {
  const { node, xattrs, sizeBytes } = inode;
  const { seconds, nanos } = timeOf(node.modifiedNs);
  target.writeUInt16LE(longForm | layoutOf(inode), offset);
  target.writeUInt16LE(xattrCount(xattrs), offset + 2);
  target.writeUInt16LE(typeBits[node.kind] | node.permissions, offset + 4);
  target.writeUInt32LE(sizeBytes % 2 ** 32, offset + 8);
  target.writeUInt32LE(Math.floor(sizeBytes / 2 ** 32), offset + 12);
  target.writeUInt32LE(startOf(inode), offset + 16);
  target.writeUInt32LE(inode.ordinal, offset + 20);
  target.writeUInt32LE(node.uid, offset + 24);
  target.writeUInt32LE(node.gid, offset + 28);
  target.writeBigInt64LE(seconds, offset + 32);
  target.writeUInt32LE(nanos, offset + 40);
  target.writeUInt32LE(inode.links, offset + 44);
  if (xattrs.length > 0) {
    target.set(xattrs, offset + inodeBytes);
  }
  if (node.kind === "file") {
    writeIndex(node.dataBlock, sizeBytes, target, offset + indexOffset(xattrs.length));
  }
}

function layoutOf({ node, sizeBytes, inlineBytes }: Placed): number {
  if (node.kind === "file" && sizeBytes > 0) {
    return chunkBased;
  }
  return inlineBytes > 0 ? flatInline : flatPlain;
}

function writeIndex(dataBlock: number, sizeBytes: number, target: Buffer, offset: number): void {
  for (let chunk = 0; chunk * chunkBytes < sizeBytes; chunk += 1) {
    const at = offset + chunk * chunkIndexBytes;
    target.writeUInt16LE(dataDevice, at + 2);
    target.writeUInt32LE(dataBlock + chunk * 2 ** chunkFormat.blockBits, at + 4);
  }
}

/** First block of the content, the number of a device, or how the index is to be read. */
function startOf({ node, sizeBytes, blocks, firstBlock }: Placed): number {
  switch (node.kind) {
    case "file":
      return sizeBytes === 0 ? noBlock : chunkFormat.indexes | chunkFormat.blockBits;
    case "character-device":
    case "block-device":
      return encodeDevice(node.major, node.minor);
    default:
      return blocks === 0 ? noBlock : firstBlock;
  }
}

/** As Linux stores device numbers on disk (include/linux/kdev_t.h, new_encode_dev): 12 bits and 20. */
function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** The last time that was written: many files of a layer have the same, one after the other. */
let lastTime = { ns: 0n, seconds: 0n, nanos: 0 };

function timeOf(ns: bigint): typeof lastTime {
  if (lastTime.ns !== ns) {
    const seconds = floorDivide(ns, nanosPerSecond);
    lastTime = { ns, seconds, nanos: Number(ns - seconds * nanosPerSecond) };
  }
  return lastTime;
}

/** Seconds of times before 1970 round down, so that their nanoseconds stay positive. */
function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by;
  return value % by < 0n ? quotient - 1n : quotient;
}
