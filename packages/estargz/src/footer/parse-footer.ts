import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Footer } from "./footer.ts";
import { gzipFooterBytes, parseGzipFooter } from "./gzip-footer.ts";
import { parseZstdFooter, zstdFooterBytes } from "./zstd-footer.ts";

/** As much of the end of a blob as {@link parseFooter} wants to see. */
export const footerBytes: number = Math.max(gzipFooterBytes, zstdFooterBytes);

/**
 * Reads the footer of a blob of `blobBytes` that ends with `tail`.
 *
 * @returns undefined if it is an ordinary layer, one that does not end with a footer that is right in every byte.
 * @throws {InvalidArgumentError} if it is a footer, and points to where no TOC can be.
 */
export function parseFooter(tail: Buffer, blobBytes: number): Footer | undefined {
  const footer = parseGzipFooter(tail, blobBytes) ?? parseZstdFooter(tail, blobBytes);
  if (footer?.toc === undefined) {
    return footer;
  }
  const { offset, sizeBytes } = footer.toc;
  const numbers = [offset, sizeBytes, footer.toc.uncompressedBytes ?? 0, footer.contentEnd];
  const isWithin = sizeBytes > 0 && offset + sizeBytes <= blobBytes;
  if (!isWithin || !numbers.every((number) => Number.isSafeInteger(number) && number >= 0)) {
    throw new InvalidArgumentError(
      `Cannot read ${footer.format} footer: it puts a TOC of ${sizeBytes} bytes at ${offset} of a blob of ${blobBytes} bytes, ` +
        "want a place before the footer",
    );
  }
  return footer;
}
