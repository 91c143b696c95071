import { createHash } from "node:crypto";
import { DataLossError } from "@oci-worker/errdefs";
import type { Chunk } from "@oci-worker/estargz/chunk";
import { type Digest, hexOf, parseDigest } from "@oci-worker/oci/digest";
import type { PlacedChunk } from "../plan/placement.ts";

/** How the chunks of a layer are compressed. */
export type Compression = "gzip" | "zstd";

/** The content of a layer: where on its data device its chunks belong, and where in its blob they are. */
export interface LayerContent {
  /** The number of the layer: kept here as well, because its file has that name for the kernel. */
  readonly number: number;
  readonly dataBlocks: number;
  readonly compression: Compression;
  readonly prefetchBytes: number | undefined;
  readonly chunks: readonly PlacedChunk[];
}

const magic = "OCWLAZY1";
const [headerBytes, chunkBytes, checksumBytes] = [64, 72, 32];

/** A blob cannot be so long; stands for "undefined". */
const nothing = -1;

/**
 * Writes `content` as it is kept on disk: a header, then each chunk, all numbers as doubles or digests, then a sha256 of it
 * all.
 */
export function encodeContent(content: LayerContent): Buffer {
  const { number, dataBlocks, compression, prefetchBytes, chunks } = content;
  const bytes = Buffer.alloc(headerBytes + chunks.length * chunkBytes + checksumBytes);
  bytes.write(magic, "latin1");
  const header = [
    number,
    dataBlocks,
    compression === "gzip" ? 0 : 1,
    prefetchBytes ?? nothing,
    chunks.length,
  ];
  writeDoubles(bytes, magic.length, header);
  for (const [index, { start, chunk }] of chunks.entries()) {
    const at = headerBytes + index * chunkBytes;
    writeDoubles(bytes, at, [start, chunk.sizeBytes, chunk.offset, chunk.compressedBytes, chunk.innerOffset]);
    bytes.write(hexOf(chunk.digest), at + 40, "hex");
  }
  checksum(bytes).copy(bytes, bytes.length - checksumBytes);
  return bytes;
}

/** @throws {DataLossError} if that is not what {@link encodeContent} wrote. */
export function decodeContent(bytes: Buffer): LayerContent {
  const isWhole = bytes.length >= headerBytes + checksumBytes && bytes.toString("latin1", 0, 8) === magic;
  if (!isWhole || !checksum(bytes).equals(bytes.subarray(-checksumBytes))) {
    throw new DataLossError("Cannot read list of chunks: it is damaged");
  }
  const double = (at: number) => bytes.readDoubleLE(at);
  const count = double(40);
  const prefetchBytes = double(32);
  const chunks = Array.from({ length: count }, (_, index): PlacedChunk => {
    const at = headerBytes + index * chunkBytes;
    const chunk: Chunk = {
      // Only its file needs it.
      fileOffset: 0,
      sizeBytes: double(at + 8),
      offset: double(at + 16),
      compressedBytes: double(at + 24),
      innerOffset: double(at + 32),
      digest: digestAt(bytes, at + 40),
    };
    return { start: double(at), chunk };
  });
  return {
    number: double(8),
    dataBlocks: double(16),
    compression: double(24) === 0 ? "gzip" : "zstd",
    prefetchBytes: prefetchBytes === nothing ? undefined : prefetchBytes,
    chunks,
  };
}

function digestAt(bytes: Buffer, at: number): Digest {
  return parseDigest(`sha256:${bytes.toString("hex", at, at + 32)}`);
}

function writeDoubles(bytes: Buffer, at: number, values: readonly number[]): void {
  for (const [index, value] of values.entries()) {
    bytes.writeDoubleLE(value, at + 8 * index);
  }
}

function checksum(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes.subarray(0, -checksumBytes)).digest();
}
