import type { Footer } from "./footer.ts";

// Sizes of stargz-snapshotter's form, which was podman's first, and of podman's own since it has a tar-split.
const [shortBytes, longBytes] = [40, 64];
/** The number and the length that begin a skippable frame (RFC 8878, 3.1.2). */
export const skippableHeaderBytes = 8;

/** The longest of them, and the header of the frame around it. */
export const zstdFooterBytes = skippableHeaderBytes + longBytes;

const skippableMagic = 0x184d_2a50;
/** Both are in use, and differ in the case of one letter. */
const marks = ["GnUlInUx", "GNUlInUx"];
const markBytes = 8;
/** The only one there is: a TOC as eStargz has it. */
const tocType = 1n;

/** A frame that decompressors skip, with `content`. */
export function skippableFrame(content: Buffer): Buffer {
  const header = Buffer.alloc(skippableHeaderBytes);
  header.writeUInt32LE(skippableMagic, 0);
  header.writeUInt32LE(content.length, 4);
  return Buffer.concat([header, content]);
}

/** The frame that ends a zstd:chunked blob, in stargz-snapshotter's form. The sizes are of the TOC. */
export function zstdFooter(tocOffset: number, compressedBytes: number, uncompressedBytes: number): Buffer {
  const footer = Buffer.alloc(shortBytes);
  for (const [index, number] of [tocOffset, compressedBytes, uncompressedBytes].entries()) {
    footer.writeBigUInt64LE(BigInt(number), index * 8);
  }
  footer.writeBigUInt64LE(tocType, 24);
  footer.write("GnUlInUx", shortBytes - markBytes, "latin1");
  return skippableFrame(footer);
}

/** The footer at the end of `tail`, which is that of a blob of `blobBytes`; undefined where there is none of this family. */
export function parseZstdFooter(tail: Buffer, blobBytes: number): Footer | undefined {
  const footer = [shortBytes, longBytes]
    .map((bytes) => tail.subarray(-bytes - skippableHeaderBytes))
    .find(isFooterFrame)
    ?.subarray(skippableHeaderBytes);
  if (footer === undefined || footer.readBigUInt64LE(24) !== tocType) {
    return undefined;
  }
  const [offset, sizeBytes, uncompressedBytes] = [0, 8, 16].map((at) => Number(footer.readBigUInt64LE(at)));
  if (offset === undefined || sizeBytes === undefined) {
    return undefined;
  }
  return {
    format: "zstd:chunked",
    compression: "zstd",
    toc: { offset, sizeBytes, uncompressedBytes },
    contentEnd: Math.min(offset - skippableHeaderBytes, blobBytes),
  };
}

/** Whether `bytes` are a skippable frame, to their end, that ends with a mark. */
function isFooterFrame(bytes: Buffer): boolean {
  return (
    bytes.length >= skippableHeaderBytes + shortBytes &&
    bytes.readUInt32LE(0) === skippableMagic &&
    bytes.readUInt32LE(4) === bytes.length - skippableHeaderBytes &&
    marks.includes(bytes.toString("latin1", bytes.length - markBytes))
  );
}
