import { ConnectionError, ErrorCode } from "../protocol.ts";
import { DynamicTable, entryOverheadBytes } from "./dynamic-table.ts";
import { decodeHuffman } from "./huffman.ts";
import { staticTable } from "./static-table.ts";

/** Size of the table of a peer that was told nothing else (RFC 9113, section 6.5.2). We tell none. */
const tableBytes = 4096;

/** No number in a header block is as large; what follows would overflow. */
const maxInteger = 2 ** 28;

/** The fields of one header block. */
export interface FieldList {
  /** Names and values in turns, in the order they came; each byte is a character. */
  readonly raw: readonly string[];
  /** There were more than the limit; `raw` lacks those. */
  readonly isTooLarge: boolean;
}

/** Reads the header blocks of one connection in the order they come (RFC 7541). */
export class HpackDecoder {
  readonly #maxListBytes: number;
  readonly #table = new DynamicTable(tableBytes);
  #bytes: Buffer = Buffer.alloc(0);
  #offset = 0;
  #end = 0;
  #raw: string[] = [];
  #listBytes = 0;

  /** @param maxListBytes how much of a block is kept: each field counts its name, its value and 32. */
  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
  }

  /** As long as it stays the same, the same block means the same. */
  get version(): number {
    return this.#table.version;
  }

  /**
   * Decodes the block that `bytes` has from `start` to `end`.
   *
   * @throws {ConnectionError} if it is no valid block; what follows on the connection could not be understood then.
   */
  decode(bytes: Buffer, start: number, end: number): FieldList {
    this.#bytes = bytes;
    this.#offset = start;
    this.#end = end;
    this.#raw = [];
    this.#listBytes = 0;
    let mayResize = true;
    while (this.#offset < end) {
      const first = bytes[this.#offset] ?? 0;
      if ((first & 0xe0) === 0x20) {
        this.#resize(mayResize);
        continue;
      }
      mayResize = false;
      if (first >= 0x80) {
        this.#readIndexed();
      } else {
        this.#readLiteral(first >= 0x40);
      }
    }
    return { raw: this.#raw, isTooLarge: this.#listBytes > this.#maxListBytes };
  }

  #readIndexed(): void {
    const index = this.#readInteger(0x7f);
    const known = staticTable[index - 1];
    if (known !== undefined) {
      this.#add(known[0], known[1]);
      return;
    }
    const position = this.#find(index);
    this.#add(this.#table.name(position), this.#table.value(position));
  }

  #readLiteral(isIndexed: boolean): void {
    const index = this.#readInteger(isIndexed ? 0x3f : 0x0f);
    const name =
      index === 0 ? this.#readString() : (staticTable[index - 1]?.[0] ?? this.#table.name(this.#find(index)));
    const value = this.#readString();
    if (isIndexed) {
      this.#table.insert(name, value);
    }
    this.#add(name, value);
  }

  #find(index: number): number {
    const position = index === 0 ? undefined : this.#table.find(index - 1 - staticTable.length);
    if (position === undefined) {
      throw new ConnectionError(ErrorCode.compressionError, `a field has index ${index}, which nothing has`);
    }
    return position;
  }

  #resize(mayResize: boolean): void {
    const bytes = this.#readInteger(0x1f);
    if (!mayResize) {
      throw new ConnectionError(ErrorCode.compressionError, "the table is resized after the first field");
    }
    if (bytes > tableBytes) {
      throw new ConnectionError(
        ErrorCode.compressionError,
        `the table is made ${bytes} bytes, want at most ${tableBytes}`,
      );
    }
    this.#table.resize(bytes);
  }

  #add(name: string, value: string): void {
    this.#listBytes += name.length + value.length + entryOverheadBytes;
    if (this.#listBytes <= this.#maxListBytes) {
      this.#raw.push(name, value);
    }
  }

  /** Reads an integer whose first byte has it in the bits of `mask` (RFC 7541, section 5.1). */
  #readInteger(mask: number): number {
    let value = this.#readByte() & mask;
    if (value < mask) {
      return value;
    }
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#readByte();
      value += (byte & 0x7f) * factor;
      if (value > maxInteger || factor > maxInteger) {
        throw new ConnectionError(
          ErrorCode.compressionError,
          "a header block has a number that is too large",
        );
      }
      if (byte < 0x80) {
        return value;
      }
    }
  }

  #readString(): string {
    const isCoded = (this.#bytes[this.#offset] ?? 0) >= 0x80;
    const length = this.#readInteger(0x7f);
    const start = this.#offset;
    this.#offset += length;
    if (this.#offset > this.#end) {
      throw new ConnectionError(ErrorCode.compressionError, "a header block ends inside a string");
    }
    return isCoded
      ? decodeHuffman(this.#bytes, start, this.#offset)
      : this.#bytes.toString("latin1", start, this.#offset);
  }

  #readByte(): number {
    if (this.#offset >= this.#end) {
      throw new ConnectionError(ErrorCode.compressionError, "a header block ends inside a field");
    }
    const byte = this.#bytes[this.#offset] ?? 0;
    this.#offset += 1;
    return byte;
  }
}
