/** So much is handed on at a time. */
const windowBytes = 1024 * 1024;

/** A place in the output, all zeros. */
export interface Room {
  readonly buffer: Buffer;
  readonly offset: number;
}

/** The part of an output that is being filled. It moves on towards the end; what lies between is zeros. */
export class OutputWindow {
  readonly #write: (piece: Uint8Array) => void;
  #buffer = Buffer.alloc(windowBytes);
  /** Where in the output the buffer begins. */
  #start = 0;
  #used = 0;

  constructor(write: (piece: Uint8Array) => void) {
    this.#write = write;
  }

  /** Room for `length` bytes at `position`, which is not before what was asked for until now. */
  room(position: number, length: number): Room {
    if (position + length - this.#start > this.#buffer.length) {
      this.#flush();
      this.#skipTo(position);
      if (length > this.#buffer.length) {
        this.#buffer = Buffer.alloc(length);
      }
    }
    const offset = position - this.#start;
    this.#used = offset + length;
    return { buffer: this.#buffer, offset };
  }

  /** Hands on what is left, up to the size of the whole output. */
  end(totalBytes: number): void {
    this.#flush();
    this.#skipTo(totalBytes);
  }

  #flush(): void {
    const used = this.#buffer.subarray(0, this.#used);
    this.#write(used);
    used.fill(0);
    this.#start += this.#used;
    this.#used = 0;
  }

  /** Zeros up to `position`. */
  #skipTo(position: number): void {
    while (this.#start < position) {
      this.#used = Math.min(position - this.#start, this.#buffer.length);
      this.#flush();
    }
  }
}
