import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { type JsonObject, parseDocument } from "@oci-worker/oci/document";

/** No entry is longer: names and attributes of files are 64 KiB at most each. */
const maxEntryBytes = 1024 * 1024;
/** Of all that is not an entry. Each of those leaves four bytes. */
const maxRestBytes = 64 * 1024;

const [quote, backslash, comma] = [0x22, 0x5c, 0x2c];
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d];

/**
 * Cuts the entries out of a TOC, which comes piece by piece, so that the JSON never has to be in memory as a whole.
 *
 * An entry is an object in a list in the outermost object. What is left when each of them is replaced by a text is small,
 * and tells at the end whether it was a TOC after all.
 */
export class JsonEntries {
  readonly #onEntry: (entry: JsonObject) => void;
  readonly #maxEntries: number;
  #count = 0;
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #isInEntry = false;
  /** What came of the entry that has begun, or else of the rest. */
  #entry: Buffer[] = [];
  #entryBytes = 0;
  readonly #rest: Buffer[] = [];
  #restBytes = 0;

  /** @param onEntry told each entry in turn. */
  constructor(onEntry: (entry: JsonObject) => void, maxEntries: number) {
    this.#onEntry = onEntry;
    this.#maxEntries = maxEntries;
  }

  /** @throws {InvalidArgumentError} if it is not a TOC; {ResourceExhaustedError} if one that is too large. */
  write(piece: Buffer): void {
    let start = 0;
    for (let at = 0; at < piece.length; at += 1) {
      const byte = piece[at];
      if (this.#isInString) {
        this.#readText(byte);
      } else if (byte === quote) {
        this.#isInString = true;
      } else if (byte === openBrace || byte === openBracket) {
        this.#depth += 1;
        if (this.#depth === 3 && byte === openBrace) {
          this.#isInEntry = true;
          this.#keepRest(piece.subarray(start, at));
          start = at;
        }
      } else if (byte === closeBrace || byte === closeBracket) {
        this.#depth -= 1;
        if (this.#depth === 2 && this.#isInEntry) {
          this.#keepEntry(piece.subarray(start, at + 1));
          this.#endEntry();
          start = at + 1;
        }
      }
    }
    const left = piece.subarray(start);
    if (this.#isInEntry) {
      this.#keepEntry(left);
    } else {
      this.#keepRest(left);
    }
  }

  /** Says that there is no more. @throws {InvalidArgumentError} if it was not a TOC, or not all of one. */
  end(): void {
    if (this.#isInEntry) {
      throw new InvalidArgumentError(`Cannot read TOC: it ends within entry ${this.#count}`);
    }
    const rest = parseDocument("TOC", Buffer.concat(this.#rest), Number.MAX_SAFE_INTEGER);
    const { version, entries } = rest;
    if (version !== 1) {
      throw new InvalidArgumentError(`Cannot read TOC: its version is ${JSON.stringify(version)}, want 1`);
    }
    const isWhole =
      Array.isArray(entries) && entries.length === this.#count && entries.every((entry) => entry === stand);
    // Go writes an empty list as null.
    if (!isWhole && !(entries === null && this.#count === 0)) {
      throw new InvalidArgumentError("Cannot read TOC: want one list of objects with the name entries");
    }
  }

  #readText(byte: number | undefined): void {
    if (this.#isEscaped) {
      this.#isEscaped = false;
    } else if (byte === backslash) {
      this.#isEscaped = true;
    } else if (byte === quote) {
      this.#isInString = false;
    }
  }

  #keepEntry(bytes: Buffer): void {
    this.#entryBytes += bytes.length;
    if (this.#entryBytes > maxEntryBytes) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: entry ${this.#count} has more than ${maxEntryBytes} bytes, the most that is allowed`,
      );
    }
    // A piece is only valid until the next one comes.
    this.#entry.push(this.#depth >= 3 ? Buffer.from(bytes) : bytes);
  }

  #endEntry(): void {
    this.#count += 1;
    if (this.#count > this.#maxEntries) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: it has more than ${this.#maxEntries} entries, the most that is allowed`,
      );
    }
    const [only, ...others] = this.#entry;
    const bytes = only !== undefined && others.length === 0 ? only : Buffer.concat(this.#entry);
    this.#entry = [];
    this.#entryBytes = 0;
    this.#isInEntry = false;
    this.#onEntry(parseDocument(`entry ${this.#count - 1} of TOC`, bytes, maxEntryBytes));
    this.#rest.push(placeholder);
    this.#restBytes += placeholder.length;
  }

  #keepRest(bytes: Buffer): void {
    // Between entries stands a comma, with the blanks that make the JSON readable.
    const kept = isSeparator(bytes) ? bytes.subarray(0, 0) : bytes;
    const isComma = kept.length === 0 && bytes.includes(comma);
    this.#restBytes += kept.length;
    if (this.#restBytes - placeholder.length * this.#count > maxRestBytes) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: it has more than ${maxRestBytes} bytes beside its entries, the most that is allowed`,
      );
    }
    this.#rest.push(isComma ? separator : Buffer.from(kept));
  }
}

/** What stands for an entry in the rest: a text, so that nothing beside it can make it something else. */
const stand = "0";
const placeholder = Buffer.from(JSON.stringify(stand));
const separator = Buffer.from(",");

/** Whether it is one comma and blanks. */
function isSeparator(bytes: Buffer): boolean {
  return bytes.length < 64 && bytes.toString("latin1").trim() === ",";
}
