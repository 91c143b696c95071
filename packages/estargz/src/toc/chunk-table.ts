import { type Digest, digestOfBytes } from "@oci-worker/oci/digest";
import type { Chunk } from "../chunk.ts";
import { withRoom } from "./columns.ts";

const digestBytes = 32;

/** The chunks of the files of a layer, a column for each of their fields: see {@link Chunk}. */
export interface ChunkTable {
  readonly count: number;
  readonly fileOffsets: Float64Array;
  readonly sizes: Uint32Array;
  readonly offsets: Float64Array;
  readonly compressedBytes: Uint32Array;
  readonly innerOffsets: Uint32Array;
  /** 32 bytes each. */
  readonly digests: Uint8Array;
}

/** One of `chunks`. */
export function chunkAt(chunks: ChunkTable, index: number): Chunk {
  return {
    fileOffset: chunks.fileOffsets[index] ?? 0,
    sizeBytes: chunks.sizes[index] ?? 0,
    digest: digestAt(chunks.digests, index),
    offset: chunks.offsets[index] ?? 0,
    compressedBytes: chunks.compressedBytes[index] ?? 0,
    innerOffset: chunks.innerOffsets[index] ?? 0,
  };
}

function digestAt(digests: Uint8Array, index: number): Digest {
  return digestOfBytes(digests.subarray(index * digestBytes, (index + 1) * digestBytes));
}

/** A {@link ChunkTable} that grows. */
export class GrowingChunks implements ChunkTable {
  count = 0;
  fileOffsets: Float64Array = new Float64Array(initialRoom);
  sizes: Uint32Array = new Uint32Array(initialRoom);
  offsets: Float64Array = new Float64Array(initialRoom);
  compressedBytes: Uint32Array = new Uint32Array(initialRoom);
  innerOffsets: Uint32Array = new Uint32Array(initialRoom);
  digests: Uint8Array = new Uint8Array(initialRoom * digestBytes);

  /** @param digest 32 bytes, copied. */
  add(chunk: Omit<Chunk, "digest">, digest: Uint8Array): void {
    const index = this.count;
    this.count += 1;
    if (index === this.sizes.length) {
      this.#grow(index + 1);
    }
    this.fileOffsets[index] = chunk.fileOffset;
    this.sizes[index] = chunk.sizeBytes;
    this.offsets[index] = chunk.offset;
    this.compressedBytes[index] = chunk.compressedBytes;
    this.innerOffsets[index] = chunk.innerOffset;
    const { digests } = this;
    const start = index * digestBytes;
    for (let at = 0; at < digestBytes; at += 1) {
      digests[start + at] = digest[at] ?? 0;
    }
  }

  #grow(count: number): void {
    this.fileOffsets = withRoom(this.fileOffsets, count);
    this.sizes = withRoom(this.sizes, count);
    this.offsets = withRoom(this.offsets, count);
    this.compressedBytes = withRoom(this.compressedBytes, count);
    this.innerOffsets = withRoom(this.innerOffsets, count);
    this.digests = withRoom(this.digests, count * digestBytes);
  }
}

const initialRoom = 1024;
