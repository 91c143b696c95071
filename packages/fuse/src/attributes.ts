import { attr } from "./protocol.ts";

/** What stat(2) tells of a file; all times are that of the last change of its content. */
export interface FileAttributes {
  readonly inode: number;
  readonly sizeBytes: number;
  /** Type and permissions, as st_mode. */
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a device, in the form that the kernel has on disk: 12 bits of the major number between 8 and 12 of the minor. */
  readonly deviceNumber: number;
  readonly modifiedSeconds: bigint;
  readonly modifiedNanos: number;
}

/** Blocks of st_blocks have that size, whatever the file system's own (stat(2)). */
const statBlockBytes = 512;

/** Blocks of 4 KiB suit every file system that we serve. */
const preferredBytes = 4096;

/** Writes struct fuse_attr at `at` of `reply`, which is all zeros there: for `FileSystem.attributes`. */
export function writeAttributes(reply: Buffer, at: number, attributes: FileAttributes): void {
  const { inode, sizeBytes, modifiedSeconds, modifiedNanos } = attributes;
  writeNumber(reply, inode, at + attr.ino);
  writeNumber(reply, sizeBytes, at + attr.size);
  writeNumber(
    reply,
    Math.ceil(sizeBytes / preferredBytes) * (preferredBytes / statBlockBytes),
    at + attr.blocks,
  );
  for (const [seconds, nanos] of times) {
    reply.writeBigInt64LE(modifiedSeconds, at + seconds);
    reply.writeUInt32LE(modifiedNanos, at + nanos);
  }
  reply.writeUInt32LE(attributes.mode, at + attr.mode);
  reply.writeUInt32LE(attributes.links, at + attr.nlink);
  reply.writeUInt32LE(attributes.uid, at + attr.uid);
  reply.writeUInt32LE(attributes.gid, at + attr.gid);
  reply.writeUInt32LE(attributes.deviceNumber, at + attr.rdev);
  reply.writeUInt32LE(preferredBytes, at + attr.blockSize);
}

const times = [
  [attr.atime, attr.atimeNs],
  [attr.mtime, attr.mtimeNs],
  [attr.ctime, attr.ctimeNs],
] as const;

function writeNumber(reply: Buffer, value: number, at: number): void {
  reply.writeUInt32LE(value % 2 ** 32, at);
  reply.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}
