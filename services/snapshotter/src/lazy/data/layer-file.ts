import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { promisify } from "node:util";
import { DataLossError } from "@oci-worker/errdefs";
import { copyFileRange, punchHole, seekTo } from "@oci-worker/libc/file";
import { digestOfHash } from "@oci-worker/oci/digest";
import { isVerified, type SharedLayer, shareLayer } from "../device/shared-layer.ts";
import type { LayerContent } from "./layer-chunks.ts";

/** Blocks that a hole consists of; every file system of ours has that size or a divisor of it. */
const blockBytes = 4096;

/** Times of earlier processes are all before those of this one, and in their order. No clock comes so far. */
const beforeStart = 2 ** -52;

const syncFile = promisify(fsync);

export interface LayerFileOptions {
  /** Made if it is absent. */
  readonly dataPath: string;
  /** Likewise. */
  readonly presentPath: string;
  /** Where it is written when chunks were used. A hint. */
  readonly usedPath: string;
  readonly clock: Float64Array<SharedArrayBuffer>;
  /** Whether others read the file, past all of ours: none of it may be zeros again. */
  readonly isPinned: () => boolean;
}

/**
 * The content of a layer as far as it is there: a sparse file that is byte for byte its data device, and beside it a note of
 * which chunks it has.
 *
 * The note is a hint: what an earlier process wrote is checked against its digest before anybody sees it. Nothing that has
 * not been checked is ever marked as such, so a crash at any moment costs at most some chunks.
 */
export class LayerFile implements Disposable {
  readonly shared: SharedLayer;
  readonly content: LayerContent;
  /** Bytes of the chunks that are, or may be, in the file, in whole blocks. */
  presentBytes = 0;
  verifiedChunks = 0;
  readonly #fd: number;
  readonly #presentFd: number;
  readonly #present: Buffer;
  readonly #usedPath: string;
  readonly #isPinned: () => boolean;
  #savedAt = 0;
  #isClosed = false;

  constructor(content: LayerContent, { dataPath, presentPath, usedPath, clock, isPinned }: LayerFileOptions) {
    this.content = content;
    this.#isPinned = isPinned;
    const deviceBytes = content.dataBlocks * blockBytes;
    using undo = new DisposableStack();
    this.#fd = openSync(dataPath, constants.O_RDWR | constants.O_CREAT, 0o600);
    undo.defer(() => closeSync(this.#fd));
    this.#presentFd = openSync(presentPath, constants.O_RDWR | constants.O_CREAT, 0o600);
    undo.defer(() => closeSync(this.#presentFd));
    this.#present = Buffer.alloc(Math.ceil(content.chunks.length / 8));
    // Of a file that has another size nothing can be believed.
    if (fstatSync(this.#fd).size === deviceBytes) {
      readSync(this.#presentFd, this.#present, 0, this.#present.length, 0);
    }
    ftruncateSync(this.#fd, deviceBytes);
    ftruncateSync(this.#presentFd, this.#present.length);
    const chunks = content.chunks.map(({ start, chunk: { sizeBytes } }) => ({ start, sizeBytes }));
    this.shared = shareLayer({ number: content.number, dataPath, deviceBytes, clock }, chunks);
    for (const index of content.chunks.keys()) {
      this.presentBytes += this.isPresent(index) ? this.roomOf(index) : 0;
    }
    this.#usedPath = usedPath;
    this.#loadUse();
    undo.move();
  }

  get isComplete(): boolean {
    return this.verifiedChunks === this.content.chunks.length;
  }

  isVerified(chunk: number): boolean {
    return isVerified(this.shared, chunk);
  }

  /** Whether `chunk` is, or by the word of an earlier process may be, in the file. */
  isPresent(chunk: number): boolean {
    return ((this.#present[chunk >>> 3] ?? 0) & (1 << (chunk & 7))) !== 0;
  }

  /** What `chunk` takes on the disk. */
  roomOf(chunk: number): number {
    return Math.ceil((this.shared.sizes[chunk] ?? 0) / blockBytes) * blockBytes;
  }

  /** Puts `bytes`, which have been checked, where `chunk` belongs. @throws the error of write(2), such as ENOSPC. */
  put(chunk: number, bytes: Buffer): void {
    this.#requireOpen();
    const start = this.shared.starts[chunk] ?? 0;
    this.#fill(chunk, () => {
      for (let written = 0; written < bytes.length; ) {
        written += writeSync(this.#fd, bytes, written, bytes.length - written, start + written);
      }
    });
  }

  /**
   * Puts there what another layer has, checked, of the same digest; the file system shares the blocks where it can.
   *
   * @throws the error of copy_file_range(2) or write(2).
   */
  putCopy(chunk: number, other: LayerFile, otherChunk: number): void {
    this.#requireOpen();
    const sizeBytes = this.shared.sizes[chunk] ?? 0;
    seekTo(other.#fd, other.shared.starts[otherChunk] ?? 0);
    seekTo(this.#fd, this.shared.starts[chunk] ?? 0);
    this.#fill(chunk, () => {
      for (let copied = 0; copied < sizeBytes; ) {
        const now = copyFileRange(other.#fd, this.#fd, sizeBytes - copied);
        if (now === 0) {
          throw new DataLossError("Cannot copy chunk: the file that has it has been cut short");
        }
        copied += now;
      }
    });
  }

  /** Checks what an earlier process has left of `chunk`. @returns whether it is good; if not, it is forgotten. */
  verify(chunk: number): boolean {
    if (this.isVerified(chunk)) {
      return true;
    }
    this.#requireOpen();
    const sizeBytes = this.shared.sizes[chunk] ?? 0;
    const bytes = Buffer.allocUnsafe(sizeBytes);
    const read = readSync(this.#fd, bytes, 0, sizeBytes, this.shared.starts[chunk] ?? 0);
    const digest = digestOfHash(createHash("sha256").update(bytes.subarray(0, read)));
    if (digest === this.content.chunks[chunk]?.chunk.digest) {
      this.#markVerified(chunk);
      return true;
    }
    this.evict(chunk);
    return false;
  }

  /**
   * Gives the room of `chunk` back.
   *
   * Readers look at the count of evictions before and after they read: it changes after nobody can begin to read the chunk
   * any more, and before it is gone.
   */
  evict(chunk: number): void {
    const { verified, evictions, starts, sizes } = this.shared;
    this.#markPresent(chunk, false);
    if (this.isVerified(chunk)) {
      Atomics.and(verified, chunk >>> 5, ~(1 << (chunk & 31)));
      this.verifiedChunks -= 1;
    }
    Atomics.add(evictions, 0, 1);
    const start = starts[chunk] ?? 0;
    const end = start + (sizes[chunk] ?? 0);
    // Whole blocks: what begins in the same one as this ends belongs to another chunk. Behind the last of a file is nothing.
    const from = Math.ceil(start / blockBytes) * blockBytes;
    const isLastOfFile =
      (starts[chunk + 1] ?? Number.POSITIVE_INFINITY) >= Math.ceil(end / blockBytes) * blockBytes;
    const to = (isLastOfFile ? Math.ceil(end / blockBytes) : Math.floor(end / blockBytes)) * blockBytes;
    // What is wrong in one that others read is written over when it comes again.
    if (to > from && !this.#isPinned()) {
      punchHole(this.#fd, from, to - from);
    }
  }

  /** Writes down when chunks were used, for {@link Quota} after a restart, if somebody has read anything since the last time. */
  saveUse(): void {
    const now = this.shared.clock[0] ?? 0;
    if (now !== this.#savedAt) {
      writeFileSync(this.#usedPath, new Uint8Array(this.shared.used.buffer), { mode: 0o600 });
      this.#savedAt = now;
    }
  }

  /** What is not as it was written is not believed: all is as if nobody had read it then. */
  #loadUse(): void {
    const { used } = this.shared;
    try {
      const bytes = readFileSync(this.#usedPath);
      if (bytes.length === used.byteLength) {
        const before = new Float64Array(new Uint8Array(bytes).buffer);
        used.set(before.map((each) => (each > 0 && Number.isFinite(each) ? each * beforeStart : 0)));
      }
    } catch {
      // It is new, or cannot be read; the disk will tell elsewhere.
    }
  }

  /** Reads the device into `buffer` from `at` on. For what has been checked. */
  read(offset: number, sizeBytes: number, buffer: Buffer, at: number): number {
    this.#requireOpen();
    return readSync(this.#fd, buffer, at, sizeBytes, offset);
  }

  /** Waits until all that is in the file is on the disk. */
  async sync(): Promise<void> {
    await syncFile(this.#fd);
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    closeSync(this.#fd);
    closeSync(this.#presentFd);
  }

  /** Its descriptors may be other files' by now. */
  #requireOpen(): void {
    if (this.#isClosed) {
      throw new Error(`Cannot use data of layer ${this.shared.number}: it is not served any more`);
    }
  }

  /** What was written before the disk was full takes no room from others. */
  #fill(chunk: number, write: () => void): void {
    try {
      write();
      this.#markPresent(chunk, true);
    } catch (error) {
      this.evict(chunk);
      throw error;
    }
    this.#markVerified(chunk);
  }

  #markPresent(chunk: number, isPresent: boolean): void {
    if (this.isPresent(chunk) === isPresent) {
      return;
    }
    const at = chunk >>> 3;
    const bit = 1 << (chunk & 7);
    const before = this.#present[at] ?? 0;
    this.#present[at] = isPresent ? before | bit : before & ~bit;
    this.presentBytes += isPresent ? this.roomOf(chunk) : -this.roomOf(chunk);
    writeSync(this.#presentFd, this.#present, at, 1, at);
  }

  #markVerified(chunk: number): void {
    if (this.isVerified(chunk)) {
      return;
    }
    const { verified, used, clock } = this.shared;
    Atomics.or(verified, chunk >>> 5, 1 << (chunk & 31));
    this.verifiedChunks += 1;
    // Just come, so the last to go, if somebody has read it; what was read before the start keeps its place.
    used[chunk] = (used[chunk] ?? 0) < 1 ? (used[chunk] ?? 0) : (clock[0] ?? 0);
  }
}
