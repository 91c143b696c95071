import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { EntryFields } from "./entry-fields.ts";
import { JsonScanner, kinds, NotJson, nameOfKind, OutOfBytes } from "./json-scanner.ts";

/** No entry is longer: names and attributes of files are 64 KiB at most each. */
const maxEntryBytes = 1024 * 1024;
/** Of all that is not an entry. */
const maxRestBytes = 64 * 1024;

/** What comes next. */
type State = "beginning" | "member" | "entry" | "after member" | "nothing";

/**
 * Reads a TOC, which comes piece by piece, and tells of each of its entries: no more than a piece and an entry of it is in
 * memory. What it does not know, it skips.
 */
export class TocJson {
  readonly #onEntry: (fields: EntryFields, index: number) => void;
  readonly #maxEntries: number;
  readonly #scanner: JsonScanner;
  readonly #fields: EntryFields;
  /** What was left of the pieces before, this one, and a byte that is 0. */
  #window = Buffer.alloc(1);
  /** Of the bytes in it. */
  #end = 0;
  /** With fewer it is not worth while to try again: what is long must not be read for each piece of it. */
  #wantedBytes = 0;
  #state: State = "beginning";
  #count = 0;
  #restBytes = 0;
  #version: number | undefined;
  #hasEntries = false;

  /** @param onEntry told each entry in turn, with its number. */
  constructor(onEntry: (fields: EntryFields, index: number) => void, maxEntries: number) {
    this.#onEntry = onEntry;
    this.#maxEntries = maxEntries;
    this.#scanner = new JsonScanner(this.#window, 0);
    this.#fields = new EntryFields(this.#scanner);
  }

  /** @throws {InvalidArgumentError} if it is not a TOC; {ResourceExhaustedError} if one that is too large. */
  write(piece: Buffer): void {
    this.#append(piece);
    if (this.#end >= this.#wantedBytes) {
      this.#read();
    }
  }

  /** Says that there is no more. @throws {InvalidArgumentError} if it was not a TOC, or not all of one. */
  end(): void {
    this.#read();
    if (this.#state !== "nothing") {
      const where = this.#state === "entry" ? ` within entries[${this.#count}]` : "";
      throw new InvalidArgumentError(`Cannot read TOC: it is no JSON, it ends early${where}`);
    }
    if (this.#version !== 1) {
      throw new InvalidArgumentError(
        `Cannot read TOC: its version is ${this.#version ?? "no number"}, want 1`,
      );
    }
    if (!this.#hasEntries) {
      throw new InvalidArgumentError("Cannot read TOC: want one list of objects with the name entries");
    }
  }

  #append(piece: Buffer): void {
    const left = this.#end - this.#scanner.at;
    const end = left + piece.length;
    const window = end < this.#window.length ? this.#window : Buffer.allocUnsafe(end + 1);
    this.#window.copy(window, 0, this.#scanner.at, this.#end);
    piece.copy(window, left);
    window[end] = 0;
    this.#window = window;
    this.#end = end;
    this.#scanner.moveTo(window, 0, end);
  }

  #read(): void {
    const scanner = this.#scanner;
    let start = scanner.at;
    try {
      for (;;) {
        start = scanner.at;
        this.#step(start);
      }
    } catch (error) {
      if (error instanceof NotJson) {
        throw new InvalidArgumentError(`Cannot read TOC: it is no JSON at or before entries[${this.#count}]`);
      }
      if (!(error instanceof OutOfBytes)) {
        throw error;
      }
    }
    scanner.at = start;
    const leftBytes = this.#end - start;
    this.#requireSize(leftBytes);
    this.#wantedBytes = Math.min(2 * leftBytes, this.#state === "entry" ? maxEntryBytes : maxRestBytes);
  }

  #requireSize(bytes: number): void {
    if (this.#state === "entry" && bytes > maxEntryBytes) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: entries[${this.#count}] has more than ${maxEntryBytes} bytes, the most that is allowed`,
      );
    }
    if (this.#state !== "entry" && this.#restBytes + bytes > maxRestBytes) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: it has more than ${maxRestBytes} bytes beside its entries, the most that is allowed`,
      );
    }
  }

  /** Reads what comes next, from `start` on: all of it, or nothing has changed. */
  #step(start: number): void {
    const scanner = this.#scanner;
    let next: State = "nothing";
    switch (this.#state) {
      case "entry":
        this.#readEntry(start);
        return;
      case "beginning":
        next = scanner.open(true) ? "member" : "nothing";
        break;
      case "member":
        next = this.#readMember();
        break;
      case "after member":
        next = scanner.next(true) ? "member" : "nothing";
        break;
      case "nothing":
        scanner.peek();
        throw new NotJson("something follows");
    }
    this.#requireSize(scanner.at - start);
    this.#restBytes += scanner.at - start;
    this.#state = next;
  }

  #readEntry(start: number): void {
    const scanner = this.#scanner;
    const kind = scanner.kind();
    if (kind !== kinds.object) {
      throw new InvalidArgumentError(
        `Cannot read TOC: entries[${this.#count}] is ${nameOfKind(kind)}, want an object`,
      );
    }
    this.#fields.read();
    const isLast = !scanner.next(false);
    this.#requireSize(scanner.at - start);
    if (this.#count === this.#maxEntries) {
      throw new ResourceExhaustedError(
        `Cannot read TOC: it has more than ${this.#maxEntries} entries, the most that is allowed`,
      );
    }
    this.#onEntry(this.#fields, this.#count);
    this.#count += 1;
    if (isLast) {
      this.#state = "after member";
    }
  }

  /** Of the outermost object. */
  #readMember(): State {
    const scanner = this.#scanner;
    scanner.key();
    const name = scanner.decoded(scanner.textStart, scanner.textEnd);
    const kind = scanner.kind();
    if (name === "version" && kind === kinds.number) {
      this.#version = scanner.number();
    } else if (name === "entries") {
      return this.#readEntries(kind === kinds.list);
    } else {
      scanner.skip();
    }
    return "after member";
  }

  #readEntries(isList: boolean): State {
    const scanner = this.#scanner;
    // Go writes an empty list as null.
    const isNull = scanner.kind() === kinds.null;
    if (this.#hasEntries || !(isList || isNull)) {
      throw new InvalidArgumentError("Cannot read TOC: want one list of objects with the name entries");
    }
    let isEmpty = true;
    if (isList) {
      isEmpty = !scanner.open(false);
    } else {
      scanner.skip();
    }
    this.#hasEntries = true;
    return isEmpty ? "after member" : "entry";
  }
}
