import { promisify } from "node:util";
import { constants, gzip, zstdCompress } from "node:zlib";
import { endOfArchive, type TarMember, tarHeaders, tarPadding } from "@oci-worker/layer/tar/writer";
import { digestOf } from "@oci-worker/oci/digest";
import { ociLayerGzip, ociLayerZstd } from "@oci-worker/oci/media-type";
import { manifestChecksumAnnotation, manifestPositionAnnotation } from "../annotations.ts";
import { gzipFooter } from "../footer/gzip-footer.ts";
import { skippableFrame, skippableHeaderBytes, zstdFooter } from "../footer/zstd-footer.ts";
import { tocName } from "../toc/special-names.ts";

/** What follows the last file of a layer. */
export interface Ending {
  /** Of the archive, as a member of its own. */
  readonly archive: Buffer;
  /** What comes after it in the blob and is not of the archive, given where that member begins and how long it is. */
  after(offset: number, compressedBytes: number): Promise<Buffer>;
}

/** One of the ways to build a layer. */
export interface Format {
  readonly mediaType: string;
  compress(bytes: Buffer): Promise<Buffer>;
  ending(toc: Buffer): Ending;
  /** Of the layer's descriptor, beside those that both have; given the last bytes of the blob. */
  annotations(toc: Buffer, after: Buffer, blobBytes: number): Readonly<Record<string, string>>;
}

const [gzipped, zstdCompressed] = [promisify(gzip), promisify(zstdCompress)];

/** What gzip uses if not told. 9 takes twice the time for half a percent. */
const defaultGzipLevel = 6;
/** What zstd uses if not told. */
const defaultZstdLevel = 3;

/** eStargz: the TOC is the last file of the archive, and a gzip member without content says where. */
export function eStargz(level: number = defaultGzipLevel): Format {
  return {
    mediaType: ociLayerGzip,
    compress: (bytes) => gzipped(bytes, { level }),
    ending(toc) {
      const member: TarMember = { type: "file", name: tocName, mode: 0 };
      return {
        archive: Buffer.concat([tarHeaders(member, toc.length), toc, tarPadding(toc.length), endOfArchive]),
        after: async (offset) => gzipFooter(offset),
      };
    },
    annotations: () => ({}),
  };
}

/** zstd:chunked as stargz-snapshotter writes it: the TOC is in a frame that decompressors skip. */
export function zstdChunked(level: number = defaultZstdLevel): Format {
  const compress = (bytes: Buffer) =>
    zstdCompressed(bytes, { params: { [constants.ZSTD_c_compressionLevel]: level } });
  return {
    mediaType: ociLayerZstd,
    compress,
    ending(toc) {
      return {
        archive: endOfArchive,
        async after(offset, compressedBytes) {
          const compressed = await compress(toc);
          const tocOffset = offset + compressedBytes + skippableHeaderBytes;
          return Buffer.concat([
            skippableFrame(compressed),
            zstdFooter(tocOffset, compressed.length, toc.length),
          ]);
        },
      };
    },
    annotations(toc, after, blobBytes) {
      const compressed = after.subarray(skippableHeaderBytes, after.length - zstdFooter(0, 0, 0).length);
      const offset = blobBytes - after.length + skippableHeaderBytes;
      return {
        [manifestChecksumAnnotation]: digestOf(compressed),
        [manifestPositionAnnotation]: `${offset}:${compressed.length}:${toc.length}:1`,
      };
    },
  };
}
