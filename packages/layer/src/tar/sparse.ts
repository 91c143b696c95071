import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, byteString, quoted } from "./byte-string.ts";
import { blockBytes } from "./header.ts";
import { readNumber } from "./number.ts";
import { type PaxRecords, paxNumber, wholeNumber } from "./pax.ts";

/** A stretch of a sparse file that is stored; what lies between them is holes. */
export interface Segment {
  readonly position: number;
  readonly lengthBytes: number;
}

/** How many a file may have: a map of a mebibyte, as large as any other header. */
const maxSegments = 65_536;

// Fields of the GNU format's sparse headers (tar.h of GNU tar).
const [segmentsInHeaderAt, segmentsInHeader] = [386, 4];
const [segmentsInExtensionAt, segmentsInExtension] = [0, 21];
const [isExtendedInHeaderAt, isExtendedInExtensionAt] = [482, 504];
const [realSizeAt, numberBytes] = [483, 12];

/** The segments in an old GNU sparse header, and whether blocks with more follow. */
export function readGnuSparseHeader(block: Buffer, offset: number) {
  const segments: Segment[] = [];
  readSegments(segments, block, offset + segmentsInHeaderAt, segmentsInHeader);
  return {
    segments,
    isExtended: block[offset + isExtendedInHeaderAt] !== 0,
    realSizeBytes: readNumber(block, offset + realSizeAt, numberBytes, "sparse real size"),
  };
}

/** Adds the segments of an extension block to `segments`; true if one more follows. */
export function readGnuSparseExtension(segments: Segment[], block: Buffer, offset: number): boolean {
  readSegments(segments, block, offset + segmentsInExtensionAt, segmentsInExtension);
  return block[offset + isExtendedInExtensionAt] !== 0;
}

/** An empty slot ends the list early. */
function readSegments(segments: Segment[], block: Buffer, offset: number, slots: number): void {
  for (let at = offset; at < offset + slots * 2 * numberBytes && block[at] !== 0; at += 2 * numberBytes) {
    addSegment(
      segments,
      readNumber(block, at, numberBytes, "sparse offset"),
      readNumber(block, at + numberBytes, numberBytes, "sparse length"),
    );
  }
}

function addSegment(segments: Segment[], position: number, lengthBytes: number): void {
  if (segments.length >= maxSegments) {
    throw new InvalidArgumentError(`Cannot read sparse file: it has more than ${maxSegments} segments`);
  }
  segments.push({ position, lengthBytes });
}

/** A sparse file as PAX records tell it (GNU tar manual, "Storing Sparse Files"). */
export interface PaxSparse {
  readonly realSizeBytes: number;
  /** undefined in version 1.0, where the map is the beginning of the content. */
  readonly segments: Segment[] | undefined;
}

/** What `records` say about a sparse file; undefined if they do not speak of one. */
export function paxSparse(records: PaxRecords): PaxSparse | undefined {
  const map = records.values.get("GNU.sparse.map");
  if (records.values.get("GNU.sparse.major") === "1" && records.values.get("GNU.sparse.minor") === "0") {
    return { realSizeBytes: realSize(records), segments: undefined };
  }
  const numbers = map === undefined ? records.sparsePairs : map === "" ? [] : map.split(",");
  if (map === undefined && numbers.length === 0 && !records.values.has("GNU.sparse.numblocks")) {
    return undefined;
  }
  return { realSizeBytes: realSize(records), segments: segmentsOf(numbers) };
}

function realSize(records: PaxRecords): number {
  const size = paxNumber(records, "GNU.sparse.realsize") ?? paxNumber(records, "GNU.sparse.size");
  if (size === undefined) {
    throw new InvalidArgumentError("Cannot read sparse file: its real size is missing");
  }
  return size;
}

function segmentsOf(numbers: readonly string[]): Segment[] {
  if (numbers.length % 2 !== 0) {
    throw new InvalidArgumentError("Cannot read sparse file: its map has an offset without a length");
  }
  const segments: Segment[] = [];
  for (let i = 0; i < numbers.length; i += 2) {
    const position = wholeNumber(numbers[i] ?? "", "sparse offset");
    addSegment(segments, position, wholeNumber(numbers[i + 1] ?? "", "sparse length"));
  }
  return segments;
}

/**
 * The map of version 1.0, which stands before the content in blocks of its own: the number of segments and then
 * offset and length of each, a decimal number a line.
 */
export class SparseMap {
  readonly segments: Segment[] = [];
  #count: number | undefined;
  #offset: number | undefined;
  #line = "";

  /** Takes the next block; true if it was the last of the map. */
  addBlock(block: Buffer, offset: number): boolean {
    const lines = (this.#line + byteString(block, offset, offset + blockBytes)).split("\n");
    for (const line of lines.slice(0, -1)) {
      this.#add(line);
      if (this.segments.length === this.#count) {
        return true;
      }
    }
    this.#line = lines.at(-1) ?? "";
    if (this.#line.length > 20) {
      throw new InvalidArgumentError(
        `Cannot read sparse file: its map has ${quoted(this.#line as ByteString)}, want a number a line`,
      );
    }
    return false;
  }

  #add(line: string): void {
    const number = wholeNumber(line, "sparse map");
    if (this.#count === undefined) {
      this.#count = number;
    } else if (this.#offset === undefined) {
      this.#offset = number;
    } else {
      addSegment(this.segments, this.#offset, number);
      this.#offset = undefined;
    }
  }
}

/**
 * Checks that `segments` follow one another, lie within the file, and are together what is stored.
 *
 * @throws {InvalidArgumentError} naming what is wrong.
 */
export function checkSegments(
  segments: readonly Segment[],
  realSizeBytes: number,
  storedBytes: number,
): void {
  let end = 0;
  let stored = 0;
  for (const { position, lengthBytes } of segments) {
    if (position < end || lengthBytes < 0 || position + lengthBytes > realSizeBytes) {
      throw new InvalidArgumentError(
        `Cannot read sparse file: segment ${position}+${lengthBytes} overlaps another or lies beyond its ${realSizeBytes} bytes`,
      );
    }
    end = position + lengthBytes;
    stored += lengthBytes;
  }
  if (stored !== storedBytes) {
    throw new InvalidArgumentError(
      `Cannot read sparse file: its segments have ${stored} bytes, but ${storedBytes} are stored`,
    );
  }
}
