import { FailedPreconditionError, ResourceExhaustedError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { TocDigest } from "./annotations.ts";
import { type PartialBlob, requireBytes } from "./blob.ts";
import type { ChunkCompression, Footer, TocPlace } from "./footer/footer.ts";
import { footerBytes, parseFooter } from "./footer/parse-footer.ts";
import { defaultLimits, type Limits } from "./limits.ts";
import { readToc } from "./toc/read-toc.ts";
import type { LayerTree } from "./toc/tree.ts";

export type { PartialBlob } from "./blob.ts";
export { blobInMemory, sizedBlob } from "./blob.ts";

/** A layer whose TOC has been read: everything about its files is known, and where their bytes are. */
export interface OpenLayer {
  readonly format: Footer["format"];
  /** Of the chunks. */
  readonly compression: ChunkCompression;
  readonly blobBytes: number;
  /** Of the JSON. */
  readonly tocDigest: Digest;
  readonly tree: LayerTree;
}

export interface OpenOptions {
  /**
   * What the TOC has to be, from the manifest. Undefined reads whatever is there: then only its chunks are checked, and
   * only against what the same registry says.
   */
  readonly trusted: TocDigest | undefined;
  /** What is read first, in the hope that the TOC is in it. Default: {@link defaultTailBytes}. */
  readonly tailBytes?: number;
  readonly limits?: Limits;
  /**
   * Gives the layer of the other image that holds the TOC of a layer whose footer says so, compressed as it is there, at
   * most `maxBytes` of it. Without it such a layer is an error.
   */
  readonly readExternalToc?: (maxBytes: number) => Promise<Buffer>;
}

/** A TOC takes some 50 bytes an entry: this is enough for 5,000, and 20 ms where a line has 100 Mbit/s. */
export const defaultTailBytes: number = 256 * 1024;

/**
 * Reads the footer and the TOC of `blob`: in one read if the TOC is in its tail, else in two.
 *
 * @returns undefined if it is an ordinary layer, which has no footer.
 * @throws {DataLossError} if the TOC is not the one that is trusted.
 * @throws {InvalidArgumentError} if the footer or the TOC is malformed, {ResourceExhaustedError} if over a limit.
 */
export async function openLayer(blob: PartialBlob, options: OpenOptions): Promise<OpenLayer | undefined> {
  const { trusted, tailBytes = defaultTailBytes, limits = defaultLimits } = options;
  const { tail, blobBytes } = await blob.readTail(Math.max(tailBytes, footerBytes));
  const footer = parseFooter(tail, blobBytes);
  if (footer === undefined) {
    return undefined;
  }
  const { format, compression, toc, contentEnd } = footer;
  const bytes =
    toc === undefined
      ? await externalToc(options, limits)
      : await tocBytes(blob, { tail, blobBytes }, toc, limits);
  const { tree, tocDigest } = await readToc(
    { bytes, compression, uncompressedBytes: toc?.uncompressedBytes, contentEnd },
    trusted,
    limits,
  );
  return { format, compression, blobBytes, tocDigest, tree };
}

async function tocBytes(
  blob: PartialBlob,
  { tail, blobBytes }: { tail: Buffer; blobBytes: number },
  { offset, sizeBytes }: TocPlace,
  { maxCompressedTocBytes }: Limits,
): Promise<Buffer> {
  requireSize(sizeBytes, maxCompressedTocBytes);
  const inTail = offset - (blobBytes - tail.length);
  if (inTail >= 0) {
    return tail.subarray(inTail, inTail + sizeBytes);
  }
  // All of it again rather than the front alone: the tail is small beside it, and one answer is one thing to check.
  return requireBytes(await blob.read(offset, sizeBytes), sizeBytes, "TOC");
}

async function externalToc(
  { readExternalToc }: OpenOptions,
  { maxCompressedTocBytes }: Limits,
): Promise<Buffer> {
  if (readExternalToc === undefined) {
    throw new FailedPreconditionError(
      "Cannot read TOC: it is in another image, and nobody has said in which",
    );
  }
  const bytes = await readExternalToc(maxCompressedTocBytes);
  requireSize(bytes.length, maxCompressedTocBytes);
  return bytes;
}

function requireSize(sizeBytes: number, maxBytes: number): void {
  if (sizeBytes > maxBytes) {
    throw new ResourceExhaustedError(
      `Cannot read TOC: compressed it has ${sizeBytes} bytes, want at most ${maxBytes}`,
    );
  }
}
