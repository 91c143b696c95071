import { randomUUID } from "node:crypto";
import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { type JsonObject, parseDocument } from "@oci-worker/oci/document";

/** No entry is longer: names and attributes of files are 64 KiB at most each. */
const maxEntryBytes = 1024 * 1024;
/** Of all that is not an entry; and of what may part two groups of them beside that. */
const [maxRestBytes, maxBlankBytes] = [64 * 1024, 64];

const [quote, backslash] = [0x22, 0x5c];
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d];

/**
 * Cuts the entries out of a TOC, which comes piece by piece, so that the JSON never has to be in memory as a whole.
 *
 * An entry is an object in a list in the outermost object. Those that stand together in a piece are parsed together, which
 * takes a third of the time. What is left when each such group is replaced by a text is small, and tells at the end
 * whether it was a TOC after all.
 */
export class JsonEntries {
  readonly #onEntry: (entry: JsonObject) => void;
  readonly #maxEntries: number;
  /** Stands for a group in the rest: a text that nobody can have put there. */
  readonly #stand = randomUUID();
  #count = 0;
  #groups = 0;
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #isInEntry = false;
  /** What earlier pieces had of the entry that has begun. */
  #begun: Buffer[] = [];
  #begunBytes = 0;
  readonly #rest: Buffer[] = [];
  #restBytes = 0;

  /** @param onEntry told each entry in turn. */
  constructor(onEntry: (entry: JsonObject) => void, maxEntries: number) {
    this.#onEntry = onEntry;
    this.#maxEntries = maxEntries;
  }

  /** @throws {InvalidArgumentError} if it is not a TOC; {ResourceExhaustedError} if one that is too large. */
  write(piece: Buffer): void {
    // Of the entries that are whole in this piece, of the one that begins last, and of what is none.
    let [groupStart, groupEnd, entryStart, restStart] = [0, 0, 0, 0];
    for (let at = this.#isInString ? this.#skipText(piece, 0) + 1 : 0; at < piece.length; at += 1) {
      const byte = piece[at];
      if (byte === quote) {
        at = this.#skipText(piece, at + 1);
      } else if (byte === openBrace || byte === openBracket) {
        this.#depth += 1;
        if (this.#depth === 3 && byte === openBrace) {
          this.#isInEntry = true;
          entryStart = at;
        }
      } else if (byte === closeBrace || byte === closeBracket) {
        this.#depth -= 1;
        if (this.#depth === 2 && this.#isInEntry) {
          this.#endEntry();
          if (this.#begunBytes > 0) {
            this.#keepBegun(piece.subarray(0, at + 1));
            this.#tell(Buffer.concat(this.#begun));
            [this.#begun, this.#begunBytes, restStart] = [[], 0, at + 1];
          } else {
            requireEntryBytes(at - entryStart);
            groupStart = groupEnd === 0 ? entryStart : groupStart;
            groupEnd = at + 1;
          }
        }
      }
    }
    if (groupEnd > 0) {
      this.#keepRest(piece.subarray(restStart, groupStart));
      this.#tell(piece.subarray(groupStart, groupEnd));
      restStart = groupEnd;
    }
    if (!this.#isInEntry) {
      this.#keepRest(piece.subarray(restStart));
    } else if (this.#begunBytes > 0) {
      this.#keepBegun(piece);
    } else {
      this.#keepRest(piece.subarray(restStart, entryStart));
      this.#keepBegun(piece.subarray(entryStart));
    }
  }

  /** Says that there is no more. @throws {InvalidArgumentError} if it was not a TOC, or not all of one. */
  end(): void {
    if (this.#isInEntry) {
      throw new InvalidArgumentError(`Cannot read TOC: it ends within entries[${this.#count}]`);
    }
    const rest = parseDocument("TOC", Buffer.concat(this.#rest), Number.MAX_SAFE_INTEGER);
    const { version, entries } = rest;
    if (version !== 1) {
      throw new InvalidArgumentError(`Cannot read TOC: its version is ${JSON.stringify(version)}, want 1`);
    }
    const isWhole =
      Array.isArray(entries) &&
      entries.length === this.#groups &&
      entries.every((entry) => entry === this.#stand);
    // Go writes an empty list as null.
    if (!isWhole && !(entries === null && this.#count === 0)) {
      throw new InvalidArgumentError("Cannot read TOC: want one list of objects with the name entries");
    }
  }

  /**
   * Reads on in a text. Most of a TOC is texts, so this loop is by itself.
   *
   * @returns where the text ends, at its quote, or the end of the piece.
   */
  #skipText(piece: Buffer, from: number): number {
    let isEscaped = this.#isEscaped;
    for (let at = from; at < piece.length; at += 1) {
      const byte = piece[at];
      if (isEscaped) {
        isEscaped = false;
      } else if (byte === backslash) {
        isEscaped = true;
      } else if (byte === quote) {
        this.#isInString = false;
        this.#isEscaped = false;
        return at;
      }
    }
    this.#isInString = true;
    this.#isEscaped = isEscaped;
    return piece.length;
  }

  #endEntry(): void {
    this.#isInEntry = false;
    this.#count += 1;
    if (this.#count > this.#maxEntries) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: it has more than ${this.#maxEntries} entries, the most that is allowed`,
      );
    }
  }

  /** A piece is only valid until the next one comes. */
  #keepBegun(bytes: Buffer): void {
    this.#begunBytes += bytes.length;
    requireEntryBytes(this.#begunBytes);
    this.#begun.push(Buffer.from(bytes));
  }

  /** Tells the entries of `group`, which nothing but commas and blanks may part. */
  #tell(group: Buffer): void {
    for (const entry of parsed(group, this.#count)) {
      this.#onEntry(entry);
    }
    this.#groups += 1;
    this.#rest.push(Buffer.from(JSON.stringify(this.#stand)));
  }

  #keepRest(bytes: Buffer): void {
    this.#restBytes += bytes.length;
    // A long TOC comes in many pieces, and most have some blanks between two groups.
    if (this.#restBytes > maxRestBytes + this.#groups * maxBlankBytes) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: it has more than ${maxRestBytes} bytes beside its entries, the most that is allowed`,
      );
    }
    this.#rest.push(Buffer.from(bytes));
  }
}

function requireEntryBytes(bytes: number): void {
  if (bytes > maxEntryBytes) {
    throw new ResourceExhaustedError(
      `Cannot read TOC: an entry has more than ${maxEntryBytes} bytes, the most that is allowed`,
    );
  }
}

/** One for all, because to make one takes longer than to read an entry with it. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function parsed(group: Buffer, index: number): JsonObject[] {
  let entries: unknown[];
  try {
    entries = JSON.parse(`[${utf8.decode(group)}]`);
  } catch {
    throw new InvalidArgumentError(`Cannot read TOC: it is no JSON at or before entries[${index}]`);
  }
  if (!entries.every(isObject)) {
    throw new InvalidArgumentError("Cannot read TOC: not all of its entries are objects");
  }
  return entries;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
