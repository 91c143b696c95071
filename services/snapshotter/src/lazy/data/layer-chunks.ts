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
const [headerBytes, chunkBytes, digestBytes, checksumBytes] = [64, 72, 32, 32];

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
  // All at once: each by itself takes ten times as long.
  const digests = Buffer.from(chunks.map(({ chunk }) => hexOf(chunk.digest)).join(""), "hex");
  let [at, digestAt] = [headerBytes, 0];
  for (const { start, chunk } of chunks) {
    bytes.writeDoubleLE(start, at);
    bytes.writeDoubleLE(chunk.sizeBytes, at + 8);
    bytes.writeDoubleLE(chunk.offset, at + 16);
    bytes.writeDoubleLE(chunk.compressedBytes, at + 24);
    bytes.writeDoubleLE(chunk.innerOffset, at + 32);
    digestAt += digests.copy(bytes, at + 40, digestAt, digestAt + digestBytes);
    at += chunkBytes;
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
      digest: readDigest(bytes, at + 40),
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

function readDigest(bytes: Buffer, at: number): Digest {
  return parseDigest(`sha256:${bytes.toString("hex", at, at + digestBytes)}`);
}

function writeDoubles(bytes: Buffer, at: number, values: readonly number[]): void {
  for (const [index, value] of values.entries()) {
    bytes.writeDoubleLE(value, at + 8 * index);
  }
}

function checksum(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes.subarray(0, -checksumBytes)).digest();
}
