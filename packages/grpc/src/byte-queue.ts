/** Pieces are put together up to this size: an object that holds one costs a hundred bytes, however small it is. */
const mergedBytes = 1024;

/** Bytes that wait, nearly in the pieces in which they came. */
export class ByteQueue {
  #pieces: Buffer[] = [];
  #length = 0;

  /** How many bytes wait. */
  get length(): number {
    return this.#length;
  }

  get first(): Buffer | undefined {
    return this.#pieces[0];
  }

  push(piece: Buffer): void {
    this.#length += piece.length;
    const last = this.#pieces.at(-1);
    if (last !== undefined && last.length + piece.length <= mergedBytes) {
      this.#pieces[this.#pieces.length - 1] = Buffer.concat([last, piece]);
    } else {
      this.#pieces.push(withoutWaste(piece));
    }
  }

  /** Takes out the first piece. */
  shift(): Buffer | undefined {
    const piece = this.#pieces.shift();
    this.#length -= piece?.length ?? 0;
    return piece;
  }

  /** Takes out everything, as one piece. */
  takeAll(): Buffer {
    const all = Buffer.concat(this.#pieces, this.#length);
    this.#pieces = [];
    this.#length = 0;
    return all;
  }
}

/** `bytes`, copied if keeping them would keep much more: they may be a few of what one read has brought. */
function withoutWaste(bytes: Buffer): Buffer {
  return bytes.length * 4 < bytes.buffer.byteLength ? Buffer.from(bytes) : bytes;
}
