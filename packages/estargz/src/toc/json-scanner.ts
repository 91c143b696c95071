import { isUtf8 } from "node:buffer";

/** The bytes end within what is being read: it has to be read again when there are more. */
export class OutOfBytes extends Error {}

/** What is read is no JSON. */
export class NotJson extends Error {}

/** One for all: how often it is thrown is up to whoever sends the JSON. */
const outOfBytes = new OutOfBytes("the bytes end too early");

/** What a value is, by its first byte. */
export const kinds = { absent: 0, null: 1, text: 2, number: 3, object: 4, list: 5, boolean: 6 } as const;

export type Kind = (typeof kinds)[keyof typeof kinds];

/** As a human calls it. */
export function nameOfKind(kind: Kind): string {
  const names = ["nothing", "null", "a text", "a number", "an object", "a list", "a boolean"] as const;
  return names[kind];
}

const [quote, backslash, comma, colon] = [0x22, 0x5c, 0x2c, 0x3a];
const [openBrace, closeBrace, openBracket, closeBracket] = [0x7b, 0x7d, 0x5b, 0x5d];
const [zero, nine, minus, plus, dot, lowerE, lowerU] = [0x30, 0x39, 0x2d, 0x2b, 0x2e, 0x65, 0x75];

/** Sets the bit by which upper and lower case of a letter differ. */
const lowerCase = 0x20;

/** Bytes in a text that are more than themselves: 1 ends it, escapes or must not be there, 2 is no ASCII. */
const special = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte < 0x20 || byte === quote || byte === backslash ? 1 : byte >= 0x80 ? 2 : 0,
);

const escapes = new Set(Buffer.from('"\\/bfnrt'));

/** So many digits fit into a double. */
const maxExactDigits = 15;

/**
 * Reads JSON (RFC 8259) value by value out of bytes, without making anything of what nobody wants.
 *
 * Where the bytes end within a value it throws {@link OutOfBytes}, and {@link NotJson} for what is none. A number has to be
 * followed by something, as one in an object is.
 */
export class JsonScanner {
  /** What is read next. */
  at = 0;
  /** Of the text that was read last, without its quotes. */
  textStart = 0;
  textEnd = 0;
  /** Whether its bytes are what it means: none is written with an escape. */
  isPlain = true;
  #bytes: Buffer;
  /** Behind the last byte; there is one more in the buffer, which is 0. */
  #end: number;

  constructor(bytes: Buffer, end: number) {
    this.#bytes = bytes;
    this.#end = end;
  }

  /** Goes on in other bytes. @param end of what there is; behind it has to be one byte that is 0. */
  moveTo(bytes: Buffer, at: number, end: number): void {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  /** Skips blanks. @returns the byte behind them, which is not taken. */
  peek(): number {
    const bytes = this.#bytes;
    let at = this.at;
    let byte = bytes[at];
    while (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) {
      at += 1;
      byte = bytes[at];
    }
    this.at = at;
    if (at >= this.#end) {
      throw outOfBytes;
    }
    return byte ?? 0;
  }

  /** Takes a text, behind blanks; {@link textStart} and the like say what it is. */
  text(): void {
    if (this.peek() !== quote) {
      throw noJson();
    }
    const bytes = this.#bytes;
    const start = this.at + 1;
    let at = start;
    let isPlain = true;
    let isAscii = true;
    for (;;) {
      const byte = bytes[at] ?? 0;
      const kind = special[byte];
      if (kind === 0) {
        at += 1;
      } else if (byte === quote) {
        break;
      } else if (kind === 2) {
        isAscii = false;
        at += 1;
      } else {
        at = this.#escaped(at);
        isPlain = false;
      }
    }
    if (!isAscii && !isUtf8(bytes.subarray(start, at))) {
      throw noJson();
    }
    this.textStart = start;
    this.textEnd = at;
    this.isPlain = isPlain;
    this.at = at + 1;
  }

  /** Takes the name of a member of an object, and the colon behind it. */
  key(): void {
    this.text();
    if (this.peek() !== colon) {
      throw noJson();
    }
    this.at += 1;
  }

  /**
   * Takes what stands between two members of an object or list, or its end.
   *
   * @returns whether another one follows.
   */
  next(isObject: boolean): boolean {
    const byte = this.peek();
    this.at += 1;
    if (byte === comma) {
      return true;
    }
    if (byte !== (isObject ? closeBrace : closeBracket)) {
      throw noJson();
    }
    return false;
  }

  /** Takes the beginning of an object or list. @returns whether it has any members. */
  open(isObject: boolean): boolean {
    if (this.peek() !== (isObject ? openBrace : openBracket)) {
      throw noJson();
    }
    this.at += 1;
    if (this.peek() !== (isObject ? closeBrace : closeBracket)) {
      return true;
    }
    this.at += 1;
    return false;
  }

  /** What the value is that comes next. */
  kind(): Kind {
    const byte = this.peek();
    switch (byte) {
      case quote:
        return kinds.text;
      case openBrace:
        return kinds.object;
      case openBracket:
        return kinds.list;
      case 0x6e:
        return kinds.null;
      case 0x74:
      case 0x66:
        return kinds.boolean;
      default:
        if (byte === minus || (byte >= zero && byte <= nine)) {
          return kinds.number;
        }
        throw noJson();
    }
  }

  /** Takes a number, behind blanks. */
  number(): number {
    this.peek();
    const bytes = this.#bytes;
    const start = this.at;
    let at = start;
    let value = 0;
    let byte = bytes[at] ?? 0;
    while (byte >= zero && byte <= nine) {
      value = value * 10 + byte - zero;
      at += 1;
      byte = bytes[at] ?? 0;
    }
    const digits = at - start;
    const isWhole = byte !== dot && (byte | lowerCase) !== lowerE && at < this.#end;
    if (isWhole && digits > 0 && digits <= maxExactDigits && (bytes[start] !== zero || digits === 1)) {
      this.at = at;
      return value;
    }
    return this.#otherNumber();
  }

  /** Takes a value, whatever it is. */
  skip(): void {
    /** Of the objects and lists that have begun: whether each is an object. */
    const begun: boolean[] = [];
    do {
      const isWhole = this.#skipOne(begun);
      // What it is in has another member, or ends as well.
      for (let top = begun.at(-1); isWhole && top !== undefined && !this.next(top); top = begun.at(-1)) {
        begun.pop();
      }
      if (begun.at(-1) === true) {
        this.key();
      }
    } while (begun.length > 0);
  }

  /** A text that was read before, as the characters that it means. */
  decoded(start: number, end: number): string {
    return JSON.parse(this.#bytes.toString("utf8", start - 1, end + 1)) as string;
  }

  /** Takes a value, or the beginning of one that has members. @returns whether all of it. */
  #skipOne(begun: boolean[]): boolean {
    const kind = this.kind();
    switch (kind) {
      case kinds.text:
        this.text();
        return true;
      case kinds.number:
        this.number();
        return true;
      case kinds.object:
      case kinds.list:
        if (!this.open(kind === kinds.object)) {
          return true;
        }
        begun.push(kind === kinds.object);
        return false;
      case kinds.null:
        this.#word("null");
        return true;
      default:
        this.#word(this.#bytes[this.at] === 0x74 ? "true" : "false");
        return true;
    }
  }

  #word(word: string): void {
    if (this.at + word.length > this.#end) {
      throw outOfBytes;
    }
    if (this.#bytes.toString("latin1", this.at, this.at + word.length) !== word) {
      throw noJson();
    }
    this.at += word.length;
  }

  /** What a text has at `at`, a backslash if it is right. @returns where it goes on. */
  #escaped(at: number): number {
    const bytes = this.#bytes;
    if (at >= this.#end) {
      throw outOfBytes;
    }
    if (bytes[at] !== backslash) {
      throw noJson();
    }
    const isHex = bytes[at + 1] === lowerU;
    const next = at + (isHex ? 6 : 2);
    if (next > this.#end) {
      throw outOfBytes;
    }
    if (isHex ? !hex4.test(bytes.toString("latin1", at + 2, next)) : !escapes.has(bytes[at + 1] ?? 0)) {
      throw noJson();
    }
    return next;
  }

  /** One with a sign, a fraction or many digits. */
  #otherNumber(): number {
    const bytes = this.#bytes;
    let at = this.at;
    for (let byte = bytes[at] ?? 0; isOfNumber(byte); byte = bytes[at] ?? 0) {
      at += 1;
    }
    if (at >= this.#end) {
      throw outOfBytes;
    }
    const text = bytes.toString("latin1", this.at, at);
    if (!numberForm.test(text)) {
      throw noJson();
    }
    this.at = at;
    return Number(text);
  }
}

const hex4 = /^[0-9a-fA-F]{4}$/;

/** RFC 8259, 6. */
const numberForm = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;

function isOfNumber(byte: number): boolean {
  return (
    (byte >= zero && byte <= nine) ||
    byte === minus ||
    byte === plus ||
    byte === dot ||
    (byte | lowerCase) === lowerE
  );
}

function noJson(): NotJson {
  return new NotJson("it is no JSON");
}

/** Whether `bytes` have `wanted`, which is short, at `start`. */
export function startsWith(bytes: Buffer, start: number, wanted: Buffer): boolean {
  for (let at = 0; at < wanted.length; at += 1) {
    if (bytes[start + at] !== wanted[at]) {
      return false;
    }
  }
  return true;
}
