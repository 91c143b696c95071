import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, byteString, bytesOf, quoted } from "./byte-string.ts";

/** The records of one extended header (POSIX pax, "pax Extended Header"). */
export interface PaxRecords {
  /** The last of a key wins. */
  readonly values: ReadonlyMap<string, ByteString>;
  /** GNU sparse format 0.0 repeats its keys, so order matters: `offset, numbytes, offset, numbytes, …`. */
  readonly sparsePairs: readonly ByteString[];
}

/** Keys whose value becomes a C string. */
const names: ReadonlySet<string> = new Set(["path", "linkpath", "GNU.sparse.name"]);

/**
 * Reads `body`: records of the form `length key=value\n`, `length` being that of the whole record in bytes.
 *
 * Values are kept as bytes, so that a name comes out exact whatever its `hdrcharset`.
 *
 * @throws {InvalidArgumentError} if a record is malformed.
 */
export function readPax(body: Buffer): PaxRecords {
  const text = byteString(body);
  const values = new Map<string, ByteString>();
  const sparsePairs: ByteString[] = [];
  for (let start = 0; start < text.length; ) {
    const end = recordEnd(text, start);
    const keyStart = text.indexOf(" ", start) + 1;
    const equals = text.indexOf("=", keyStart);
    if (equals <= keyStart || equals >= end || text[end - 1] !== "\n") {
      throw malformed(text, start);
    }
    const key = text.slice(keyStart, equals);
    const value = text.slice(equals + 1, end - 1) as ByteString;
    if (key.includes("\0") || (names.has(key) && value.includes("\0"))) {
      throw new InvalidArgumentError(`Cannot read PAX header: the ${quoted(key as ByteString)} has a NUL`);
    }
    addSparsePair(sparsePairs, key, value);
    values.set(key, value);
    start = end;
  }
  return { values, sparsePairs };
}

/** Digits, a blank, and at least the shortest record that there is, `5 k=\n`. */
function recordEnd(text: ByteString, start: number): number {
  let length = 0;
  let at = start;
  for (; text[at] !== " "; at += 1) {
    const digit = text.charCodeAt(at) - 0x30;
    if (!(digit >= 0 && digit <= 9) || at - start > 7) {
      throw malformed(text, start);
    }
    length = length * 10 + digit;
  }
  const end = start + length;
  if (at === start || length < 5 || end > text.length) {
    throw malformed(text, start);
  }
  return end;
}

function malformed(text: ByteString, start: number): InvalidArgumentError {
  const record = quoted(text.slice(start, start + 60) as ByteString);
  return new InvalidArgumentError(
    `Cannot read PAX header: record ${record} at byte ${start} is malformed, want "length key=value" and a newline`,
  );
}

function addSparsePair(pairs: ByteString[], key: string, value: ByteString): void {
  const place = key === "GNU.sparse.offset" ? 0 : key === "GNU.sparse.numbytes" ? 1 : undefined;
  if (place === undefined) {
    return;
  }
  if (pairs.length % 2 !== place) {
    throw new InvalidArgumentError(
      "Cannot read PAX header: GNU.sparse.offset and GNU.sparse.numbytes must alternate",
    );
  }
  pairs.push(value);
}

/**
 * The body of an extended header with `records`, in their order.
 *
 * @throws {InvalidArgumentError} if a key has a "=", which would end it early.
 */
export function writePax(records: ReadonlyMap<string, ByteString>): Buffer {
  let body = "";
  for (const [key, value] of records) {
    if (key.includes("=")) {
      throw new InvalidArgumentError(`Cannot write PAX header: key ${quoted(key as ByteString)} has a "="`);
    }
    const rest = ` ${key}=${value}\n`;
    // The length counts its own digits, so one more digit can make it need one more.
    let length = rest.length + String(rest.length).length;
    length = rest.length + String(length).length;
    body += `${length}${rest}`;
  }
  return bytesOf(body as ByteString);
}

/**
 * The value of `key` as a whole number, undefined where there is none. An empty value takes nothing away: the header's
 * own field stays, as in other readers.
 */
export function paxNumber(records: PaxRecords, key: string): number | undefined {
  const text = records.values.get(key);
  return text === undefined || text === "" ? undefined : wholeNumber(text, key);
}

/** @throws {InvalidArgumentError} if `text` is not decimal digits or beyond what a double holds exactly. */
export function wholeNumber(text: string, what: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw new InvalidArgumentError(
      `Cannot read PAX header: ${what} is ${quoted(text as ByteString)}, want a whole number below 2^53`,
    );
  }
  return value;
}

const time = /^(-?)(\d{1,19})(?:\.(\d*))?$/;

/** The value of `key`, decimal seconds since 1970, in nanoseconds; digits beyond the ninth are dropped. */
export function paxTimeNs(records: PaxRecords, key: string): bigint | undefined {
  const text = records.values.get(key);
  if (text === undefined || text === "") {
    return undefined;
  }
  const match = time.exec(text);
  if (match === null) {
    throw new InvalidArgumentError(
      `Cannot read PAX header: ${key} is ${quoted(text)}, want seconds since 1970`,
    );
  }
  const [, sign, seconds = "", fraction = ""] = match;
  const ns = BigInt(seconds + fraction.slice(0, 9).padEnd(9, "0"));
  return sign === "-" ? -ns : ns;
}

/** `ns` nanoseconds since 1970 as decimal seconds, with no more digits than it takes. */
export function paxTimeOf(ns: bigint): ByteString {
  const sign = ns < 0n ? "-" : "";
  const digits = (ns < 0n ? -ns : ns).toString().padStart(10, "0");
  const fraction = digits.slice(-9).replace(/0+$/, "");
  return `${sign}${digits.slice(0, -9)}${fraction && "."}${fraction}` as ByteString;
}
