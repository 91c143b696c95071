import { DataLossError } from "@oci-worker/errdefs";
import { crc32c } from "./crc32c.ts";
import { blockBytes } from "./node.ts";

// The structures and numbers are those of Linux, fs/erofs/erofs_fs.h.

/** The superblock leaves room for a boot loader. */
const superblockOffset = 1024;
const superblockBytes = 128;
const deviceSlotBytes = 128;

const magic = 0xe0f5e1e2;

/** Compatible features: the checksum is there; times are those of the last change. */
const checksumFeature = 0x1;
const modifiedTimeFeature = 0x2;

/** Incompatible features: files have an index of where they are; there is a table of further devices. */
const chunkedFileFeature = 0x4;
const deviceTableFeature = 0x8;

/** Where inodes may begin. The checksum is over the whole first block, so nothing else goes there. */
export const superblockEnd = blockBytes;

export interface SuperblockFields {
  readonly rootInode: number;
  readonly inodes: number;
  /** Of the image. The data device follows in the common row of blocks. */
  readonly totalBlocks: number;
  readonly dataBlocks: number;
  readonly uuid: Uint8Array;
}

/** Writes the superblock and the device table; `offset` is where the image begins in `target`. */
export function writeSuperblock(fields: SuperblockFields, target: Buffer, offset: number): void {
  const at = offset + superblockOffset;
  target.writeUInt32LE(magic, at);
  target.writeUInt32LE(checksumFeature | modifiedTimeFeature, at + 8);
  target[at + 12] = Math.log2(blockBytes);
  target.writeUInt16LE(fields.rootInode, at + 14);
  target.writeBigUInt64LE(BigInt(fields.inodes), at + 16);
  target.writeUInt32LE(fields.totalBlocks, at + 36);
  target.set(fields.uuid, at + 48);
  if (fields.dataBlocks > 0) {
    target.writeUInt32LE(chunkedFileFeature | deviceTableFeature, at + 80);
    target.writeUInt16LE(1, at + 86);
    // In units of a slot, from the beginning of the image.
    target.writeUInt16LE((superblockOffset + superblockBytes) / deviceSlotBytes, at + 88);
    target.writeUInt32LE(fields.dataBlocks, at + superblockBytes + 64);
    target.writeUInt32LE(fields.totalBlocks, at + superblockBytes + 68);
  }
  target.writeUInt32LE(crc32c(target.subarray(at, offset + blockBytes)), at + 4);
}

/**
 * Reads what {@link writeSuperblock} has written at the beginning of `image`.
 *
 * @throws {DataLossError} if it is something else, or has changed since.
 */
export function readSuperblock(image: Buffer): SuperblockFields {
  const at = superblockOffset;
  if (image.length < superblockEnd || image.readUInt32LE(at) !== magic) {
    throw new DataLossError("Cannot read image: it does not begin with a superblock of EROFS");
  }
  const checked = Buffer.from(image.subarray(at, superblockEnd));
  checked.writeUInt32LE(0, 4);
  if (crc32c(checked) !== image.readUInt32LE(at + 4)) {
    throw new DataLossError("Cannot read image: its superblock is not what its checksum says");
  }
  const totalBlocks = image.readUInt32LE(at + 36);
  if (image[at + 12] !== Math.log2(blockBytes) || image.length !== totalBlocks * blockBytes) {
    throw new DataLossError(
      `Cannot read image: it has ${image.length} bytes, want ${totalBlocks} blocks of ${blockBytes}`,
    );
  }
  const hasDevice = (image.readUInt32LE(at + 80) & deviceTableFeature) !== 0;
  return {
    rootInode: image.readUInt16LE(at + 14),
    inodes: Number(image.readBigUInt64LE(at + 16)),
    totalBlocks,
    dataBlocks: hasDevice ? image.readUInt32LE(at + superblockBytes + 64) : 0,
    uuid: image.subarray(at + 48, at + 64),
  };
}
