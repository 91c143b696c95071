import { createHash } from "node:crypto";
import { readSync } from "node:fs";
import { type Digest, digestOfHash } from "@oci-worker/oci/digest";

/** What is read at once. */
const pieceBytes = 256 * 1024;

/** Reads an open blob from its beginning to its end, once, and hashes all of it. */
export class BlobReader {
  readonly #fd: number;
  readonly #scratch = Buffer.allocUnsafe(pieceBytes);
  readonly #hash = createHash("sha256");
  #readBytes = 0;
  #digest: Digest | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** How much of the blob has been read. */
  get readBytes(): number {
    return this.#readBytes;
  }

  /** The little-endian number that the last four bytes are; 0 if there are fewer. */
  lastNumber(sizeBytes: number): number {
    const last = Buffer.alloc(4);
    readSync(this.#fd, last, 0, last.length, Math.max(0, sizeBytes - last.length));
    return last.readUInt32LE();
  }

  /** The next piece, empty at the end. Valid until the next one is asked for. */
  next(): Buffer {
    return this.#read(this.#scratch);
  }

  /** The pieces that have not been read yet, each of them to keep. */
  *pieces(): Generator<Buffer> {
    for (;;) {
      const piece = this.#read(Buffer.allocUnsafe(pieceBytes));
      if (piece.length === 0) {
        return;
      }
      yield piece;
    }
  }

  /** Reads up to `offset` at least, or to the end, for the digest only. */
  readTo(offset: number, checkpoint: () => void): void {
    while (this.#readBytes < offset && this.next().length > 0) {
      checkpoint();
    }
  }

  /** Reads what is left, and gives the digest of the whole. */
  digest(checkpoint: () => void): Digest {
    if (this.#digest === undefined) {
      this.readTo(Number.POSITIVE_INFINITY, checkpoint);
      this.#digest = digestOfHash(this.#hash);
    }
    return this.#digest;
  }

  #read(into: Buffer): Buffer {
    const piece = into.subarray(0, readSync(this.#fd, into, 0, into.length, this.#readBytes));
    this.#readBytes += piece.length;
    this.#hash.update(piece);
    return piece;
  }
}
