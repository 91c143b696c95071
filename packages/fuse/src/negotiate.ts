import { InitFlag, InitFlag2, inHeader, major, minor, outHeaderBytes } from "./protocol.ts";

/** Sizes of struct fuse_init_out. */
const initOutBytes = 64;

/** Requests that the kernel sends ahead, for read-ahead alone; its own limit of 12 leaves a fast server idle. */
const maxBackground = 64;

const maxReadPages = 256;

/**
 * asyncDio: whoever in the kernel reads past its memory and does not want to wait, as EROFS does, need not: without it a
 * signal cuts such a read short, and a program that has been sent one sees EIO where it did not even see EINTR before.
 */
const wanted =
  InitFlag.asyncRead |
  InitFlag.asyncDio |
  InitFlag.doReaddirplus |
  InitFlag.parallelDirops |
  InitFlag.abortError |
  InitFlag.maxPages |
  InitFlag.cacheSymlinks |
  InitFlag.initExt;

/**
 * Answers INIT: the version, and which of the kernel's offers are taken. Names are always listed together with their
 * attributes: what lists a directory mostly looks at its files next.
 *
 * @returns the length of the answer, which is at the beginning of the body of `reply`.
 */
export function negotiate(request: Buffer, reply: Buffer): number {
  const body = inHeader.bytes;
  const maxReadahead = request.readUInt32LE(body + 8);
  const offered = request.readUInt32LE(body + 12);
  const offeredToo = (offered & InitFlag.initExt) === 0 ? 0 : request.readUInt32LE(body + 16);
  // Mounts of it may show other ids than we tell: the kernel checks permissions itself, as every mount of ours asks for.
  const also = InitFlag2.hasResend | InitFlag2.allowIdMap;
  const at = outHeaderBytes;
  reply.fill(0, at, at + initOutBytes);
  reply.writeUInt32LE(major, at);
  reply.writeUInt32LE(minor, at + 4);
  reply.writeUInt32LE(maxReadahead, at + 8);
  reply.writeUInt32LE((wanted & offered) >>> 0, at + 12);
  reply.writeUInt16LE(maxBackground, at + 16);
  reply.writeUInt16LE((maxBackground * 3) / 4, at + 18);
  // Nobody writes, but the kernel wants at least a page.
  reply.writeUInt32LE(4096, at + 20);
  reply.writeUInt32LE(1, at + 24);
  reply.writeUInt16LE(maxReadPages, at + 28);
  reply.writeUInt32LE((also & offeredToo) >>> 0, at + 32);
  return initOutBytes;
}
