import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { type Chunk, maxCompressedBytes } from "../chunk.ts";
import type { Limits } from "../limits.ts";
import type { TocEntry } from "./entry.ts";
import type { FileNode, Growing } from "./node.ts";
import { treeError } from "./tree.ts";

/** A chunk before it is known where the next one begins. */
type GrowingChunk = { -readonly [Key in keyof Chunk]: Chunk[Key] };

/** Puts the chunks of files together from the entries of a TOC, and finds out where in the blob each ends. */
export class FileChunks {
  readonly #contentEnd: number;
  readonly #limits: Limits;
  readonly #chunks: GrowingChunk[] = [];
  /** The file whose chunks are coming, and how far they have come. */
  #file: Growing<FileNode> | undefined;
  #name = "";
  #endBytes = 0;

  /** @param contentEnd before this byte of the blob all chunks end. */
  constructor(contentEnd: number, limits: Limits) {
    this.#contentEnd = contentEnd;
    this.#limits = limits;
  }

  /** `entry` is the first of `file`. */
  start(file: Growing<FileNode>, entry: TocEntry): void {
    this.endFile();
    this.#file = file;
    this.#name = entry.name;
    this.#endBytes = 0;
    if (file.sizeBytes > 0) {
      this.#add(file, entry);
    }
  }

  /** `entry` is one more chunk of the file whose entry came last. */
  more(entry: TocEntry): void {
    if (this.#file === undefined || this.#name !== entry.name) {
      throw treeError(entry.name, "has a chunk that does not follow its file");
    }
    this.#add(this.#file, entry);
  }

  /** The file whose chunks were coming has no more. */
  endFile(): void {
    if (this.#file !== undefined && this.#endBytes !== this.#file.sizeBytes) {
      throw treeError(this.#name, `has chunks for ${this.#endBytes} bytes, want ${this.#file.sizeBytes}`);
    }
    this.#file = undefined;
  }

  /** To be called last: gives every chunk its end. */
  finish(): void {
    this.endFile();
    const fromTheEnd = this.#chunks.toSorted((one, other) => other.offset - one.offset);
    // From the last of the blob to the first: several chunks may be in one member.
    let [offset, end] = [this.#contentEnd, this.#contentEnd];
    for (const chunk of fromTheEnd) {
      if (chunk.offset < offset) {
        [offset, end] = [chunk.offset, offset];
      }
      chunk.compressedBytes = Math.min(chunk.compressedBytes, end - chunk.offset);
    }
  }

  #add(file: Growing<FileNode>, entry: TocEntry): void {
    const { chunkOffset, offset, innerOffset, endOffset } = entry;
    const restBytes = file.sizeBytes - this.#endBytes;
    const sizeBytes = entry.chunkBytes || restBytes;
    if (chunkOffset !== this.#endBytes || sizeBytes <= 0 || sizeBytes > restBytes) {
      throw treeError(
        this.#name,
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
        `Cannot read TOC: ${JSON.stringify(this.#name.slice(0, 200))} has a chunk for which ${memberBytes} bytes must be ` +
          `decompressed at once, more than ${this.#limits.maxMemberBytes}, the most that is allowed`,
      );
    }
    const digest = entry.chunkDigest ?? (sizeBytes === file.sizeBytes ? file.digest : undefined);
    if (digest === undefined) {
      throw treeError(this.#name, "has a chunk without a digest, which nobody can check");
    }
    const end = endOffset || this.#contentEnd;
    if (offset >= end || end > this.#contentEnd) {
      throw treeError(
        this.#name,
        `has a chunk at ${offset} to ${end} of the blob, want a place before ${this.#contentEnd}`,
      );
    }
    const chunk = {
      fileOffset: chunkOffset,
      sizeBytes,
      digest,
      offset,
      // Where nothing else bounds it. The next chunk may do so yet.
      compressedBytes: Math.min(end - offset, maxCompressedBytes(memberBytes)),
      innerOffset,
    };
    this.#chunks.push(chunk);
    file.chunks = file.chunks.length === 0 ? [chunk] : appended(file.chunks, chunk);
  }
}

/** In place: a list that is copied for each of its chunks would take the square of their number. */
function appended(chunks: readonly Chunk[], chunk: Chunk): readonly Chunk[] {
  (chunks as Chunk[]).push(chunk);
  return chunks;
}
