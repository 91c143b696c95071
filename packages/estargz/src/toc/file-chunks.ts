import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { maxCompressedBytes } from "../chunk.ts";
import type { Limits } from "../limits.ts";
import { type ChunkTable, GrowingChunks } from "./chunk-table.ts";
import type { TocEntry } from "./entry.ts";
import { treeError } from "./tree.ts";

/** Puts the chunks of files together from the entries of a TOC, and finds out where in the blob each ends. */
export class FileChunks {
  readonly #contentEnd: number;
  readonly #limits: Limits;
  readonly #chunks = new GrowingChunks();
  /** Of the file whose chunks are coming, and how far they have come; undefined: no file has begun, or its are all there. */
  #name: string | undefined;
  #sizeBytes = 0;
  #endBytes = 0;

  /** @param contentEnd before this byte of the blob all chunks end. */
  constructor(contentEnd: number, limits: Limits) {
    this.#contentEnd = contentEnd;
    this.#limits = limits;
  }

  /** How many there are, which is the number that the next one gets. */
  get count(): number {
    return this.#chunks.count;
  }

  /** `entry` is the first of a file. */
  start(entry: TocEntry): void {
    this.#sizeBytes = entry.sizeBytes;
    this.#endBytes = 0;
    if (entry.sizeBytes > 0) {
      this.#add(entry);
      // Most files are in one piece.
      this.#name = this.#endBytes === entry.sizeBytes ? undefined : entry.name.toString();
    }
  }

  /** `entry` is one more chunk of the file whose entry came last. */
  more(entry: TocEntry): void {
    if (this.#name !== entry.name.toString()) {
      throw treeError(entry.name.toString(), "has a chunk that does not follow its file, or one too many");
    }
    this.#add(entry);
    this.#name = this.#endBytes === this.#sizeBytes ? undefined : this.#name;
  }

  /** The file whose chunks were coming has no more. */
  endFile(): void {
    if (this.#name !== undefined) {
      throw treeError(this.#name, `has chunks for ${this.#endBytes} bytes, want ${this.#sizeBytes}`);
    }
  }

  /** To be called last: gives every chunk its end. */
  finish(): ChunkTable {
    this.endFile();
    const { offsets, compressedBytes } = this.#chunks;
    // From the last of the blob to the first: several chunks may be in one member.
    let [offset, end] = [this.#contentEnd, this.#contentEnd];
    const bound = (chunk: number) => {
      const start = offsets[chunk] ?? 0;
      if (start < offset) {
        [offset, end] = [start, offset];
      }
      compressedBytes[chunk] = Math.min(compressedBytes[chunk] ?? 0, end - start);
    };
    const order = this.#orderInBlob();
    for (let at = this.count - 1; at >= 0; at -= 1) {
      bound(order?.[at] ?? at);
    }
    return this.#chunks;
  }

  /** The numbers of the chunks by their places in the blob; undefined if they come in that order. */
  #orderInBlob(): Uint32Array | undefined {
    const { offsets, count } = this.#chunks;
    for (let at = 1; at < count; at += 1) {
      if ((offsets[at] ?? 0) < (offsets[at - 1] ?? 0)) {
        return Uint32Array.from({ length: count }, (_, index) => index).sort(
          (one, other) => (offsets[one] ?? 0) - (offsets[other] ?? 0),
        );
      }
    }
    return undefined;
  }

  #add(entry: TocEntry): void {
    const { chunkOffset, offset, innerOffset, endOffset } = entry;
    const restBytes = this.#sizeBytes - this.#endBytes;
    const sizeBytes = entry.chunkBytes || restBytes;
    if (chunkOffset !== this.#endBytes || sizeBytes <= 0 || sizeBytes > restBytes) {
      throw treeError(
        entry.name.toString(),
        `has a chunk of ${sizeBytes} bytes at ${chunkOffset}, want one of 1 to ${restBytes} at ${this.#endBytes}`,
      );
    }
    this.#endBytes += sizeBytes;
    if (entry.isHole) {
      return;
    }
    const memberBytes = innerOffset + sizeBytes;
    if (memberBytes > this.#limits.maxMemberBytes) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: ${JSON.stringify(entry.name.toString().slice(0, 200))} has a chunk for which ${memberBytes} bytes ` +
          `must be decompressed at once, more than ${this.#limits.maxMemberBytes}, the most that is allowed`,
      );
    }
    const isWhole = sizeBytes === this.#sizeBytes && entry.type === "file";
    if (!entry.hasChunkDigest && !(isWhole && entry.hasDigest)) {
      throw treeError(entry.name.toString(), "has a chunk without a digest, which nobody can check");
    }
    const end = endOffset || this.#contentEnd;
    if (offset >= end || end > this.#contentEnd) {
      throw treeError(
        entry.name.toString(),
        `has a chunk at ${offset} to ${end} of the blob, want a place before ${this.#contentEnd}`,
      );
    }
    // Where nothing else bounds it. The next chunk may do so yet.
    const compressedBytes = Math.min(end - offset, maxCompressedBytes(memberBytes));
    this.#chunks.add(
      { fileOffset: chunkOffset, sizeBytes, offset, compressedBytes, innerOffset },
      entry.hasChunkDigest ? entry.chunkDigest : entry.digest,
    );
  }
}
