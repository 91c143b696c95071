import type { Footer } from "./footer.ts";

// Sizes of the three forms (stargz-snapshotter, docs/estargz.md, "Footer").
const [estargzBytes, legacyBytes, externalBytes] = [51, 47, 46];

/** The longest of them. */
export const gzipFooterBytes = estargzBytes;

/** The offset of the TOC in hex digits. */
const offsetDigits = 16;
const mark = "STARGZ";
const externalMark = "STARGZEXTERNALTOC";

/**
 * The footer that ends an eStargz blob: a gzip member without content, whose extra field says where the TOC is.
 *
 * Made by hand, because no compressor promises these very bytes.
 */
export function gzipFooter(tocOffset: number): Buffer {
  return emptyMember(withSubfield(offsetText(tocOffset)));
}

/** The footer of a blob whose TOC is in another image. */
export function externalTocFooter(): Buffer {
  return emptyMember(withSubfield(externalMark));
}

/**
 * The footer at the end of `tail`, which is that of a blob of `blobBytes`; undefined where there is none of this family.
 *
 * A footer with one wrong byte is none: whoever wrote it meant something else.
 */
export function parseGzipFooter(tail: Buffer, blobBytes: number): Footer | undefined {
  return (
    offsetFooter(tail, blobBytes, "eStargz", estargzBytes, gzipFooter) ??
    offsetFooter(tail, blobBytes, "legacy stargz", legacyBytes, (offset) =>
      emptyMember(offsetText(offset)),
    ) ??
    externalFooter(tail, blobBytes)
  );
}

function offsetFooter(
  tail: Buffer,
  blobBytes: number,
  format: Footer["format"],
  footerBytes: number,
  footerOf: (tocOffset: number) => Buffer,
): Footer | undefined {
  const bytes = tail.subarray(-footerBytes);
  const markAt = bytes.indexOf(mark);
  const digits = bytes.toString("latin1", markAt - offsetDigits, markAt);
  if (markAt < offsetDigits || !/^[0-9a-f]{16}$/.test(digits)) {
    return undefined;
  }
  const offset = Number.parseInt(digits, 16);
  // Beyond what a double holds, the bytes cannot be made again; for the caller that is as out of range as any other.
  if (Number.isSafeInteger(offset) && !footerOf(offset).equals(bytes)) {
    return undefined;
  }
  const contentEnd = Math.min(offset, blobBytes);
  const sizeBytes = blobBytes - footerBytes - offset;
  return {
    format,
    compression: "gzip",
    toc: { offset, sizeBytes, uncompressedBytes: undefined },
    contentEnd,
  };
}

function externalFooter(tail: Buffer, blobBytes: number): Footer | undefined {
  if (!tail.subarray(-externalBytes).equals(externalTocFooter())) {
    return undefined;
  }
  return {
    format: "external TOC",
    compression: "gzip",
    toc: undefined,
    contentEnd: blobBytes - externalBytes,
  };
}

function offsetText(offset: number): string {
  return `${offset.toString(16).padStart(offsetDigits, "0")}${mark}`;
}

/** An extra field is made of subfields: two letters, a length, the content (RFC 1952, 2.3.1.1). The legacy form is not. */
function withSubfield(content: string): string {
  return `SG${String.fromCharCode(content.length)}\0${content}`;
}

/** A gzip member (RFC 1952, 2.3) with an extra field and one stored block of no bytes. */
function emptyMember(extra: string): Buffer {
  return Buffer.concat([
    // Deflate, an extra field follows, no time, no hint, of an unknown system.
    Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]),
    Buffer.from([extra.length, 0]),
    Buffer.from(extra, "latin1"),
    Buffer.from([1, 0, 0, 0xff, 0xff]),
    // Checksum and size of nothing.
    Buffer.alloc(8),
  ]);
}
