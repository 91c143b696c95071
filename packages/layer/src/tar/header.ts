import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, byteString, byteStringToNul } from "./byte-string.ts";
import { readNumber, writeOctal } from "./number.ts";

/** Everything in an archive is counted in blocks of this size (POSIX pax, "ustar Interchange Format"). */
export const blockBytes = 512;

// Offset and length of the fields of a header (POSIX pax, "ustar Interchange Format"; tar.h of GNU tar).
const [nameAt, nameBytes] = [0, 100];
const [modeAt, uidAt, gidAt, idBytes] = [100, 108, 116, 8];
const [sizeAt, mtimeAt, longNumberBytes] = [124, 136, 12];
const [checksumAt, checksumBytes] = [148, 8];
const typeAt = 156;
const [linkNameAt, linkNameBytes] = [157, 100];
const [magicAt, versionAt] = [257, 263];
const [majorAt, minorAt, deviceBytes] = [329, 337, 8];
const [prefixAt, prefixBytes, prefixBytesOfStar] = [345, 155, 131];
const trailerOfStarAt = 508;

/** Type flags (POSIX pax and tar.h of GNU tar). */
export const typeFlags = {
  oldFile: "\0",
  file: "0",
  hardLink: "1",
  symlink: "2",
  characterDevice: "3",
  blockDevice: "4",
  directory: "5",
  fifo: "6",
  contiguousFile: "7",
  pax: "x",
  globalPax: "g",
  gnuLongLink: "K",
  gnuLongName: "L",
  gnuSparse: "S",
} as const;

/** A header as it stands: what extension headers before it override is not applied. */
export interface Header {
  readonly typeFlag: string;
  readonly name: ByteString;
  readonly linkName: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Seconds since 1970, negative before. */
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
  readonly isGnu: boolean;
}

/** Whether the block at `offset` is one of the two of zeros that end an archive. */
export function isZeroBlock(block: Buffer, offset: number): boolean {
  for (let at = offset; at < offset + blockBytes; at += 1) {
    if (block[at] !== 0) {
      return false;
    }
  }
  return true;
}

/**
 * Reads the header at `offset` of `block`.
 *
 * @throws {InvalidArgumentError} if the checksum is wrong or a field is not what it has to be.
 */
export function readHeader(block: Buffer, offset: number): Header {
  verifyChecksum(block, offset);
  const magic = byteString(block, offset + magicAt, offset + versionAt);
  const typeFlag = String.fromCharCode(block[offset + typeAt] ?? 0);
  const number = (at: number, length: number, field: string) => readNumber(block, offset + at, length, field);
  const isDevice = typeFlag === typeFlags.characterDevice || typeFlag === typeFlags.blockDevice;
  return {
    typeFlag,
    name: readName(block, offset, magic),
    linkName: byteStringToNul(block, offset + linkNameAt, offset + linkNameAt + linkNameBytes),
    mode: number(modeAt, idBytes, "mode"),
    uid: number(uidAt, idBytes, "uid"),
    gid: number(gidAt, idBytes, "gid"),
    sizeBytes: number(sizeAt, longNumberBytes, "size"),
    mtime: number(mtimeAt, longNumberBytes, "mtime"),
    // Other types may have anything there, blanks and the GNU format's own fields among it.
    major: isDevice ? number(majorAt, deviceBytes, "device major") : 0,
    minor: isDevice ? number(minorAt, deviceBytes, "device minor") : 0,
    isGnu: magic === "ustar ",
  };
}

/** Only POSIX headers have a prefix: the GNU format keeps other fields in its place, v7 has none. */
function readName(block: Buffer, offset: number, magic: string): ByteString {
  const name = byteStringToNul(block, offset + nameAt, offset + nameAt + nameBytes);
  if (magic !== "ustar\0") {
    return name;
  }
  const isStar = byteString(block, offset + trailerOfStarAt, offset + trailerOfStarAt + 4) === "tar\0";
  const length = isStar ? prefixBytesOfStar : prefixBytes;
  const prefix = byteStringToNul(block, offset + prefixAt, offset + prefixAt + length);
  return prefix === "" ? name : (`${prefix}/${name}` as ByteString);
}

/** The sum of all bytes, those of the sum itself taken as blanks. Some old writers added them as signed ones. */
function verifyChecksum(block: Buffer, offset: number): void {
  const wanted = readNumber(block, offset + checksumAt, checksumBytes, "checksum");
  let unsigned = checksumBytes * 0x20;
  let negatives = 0;
  for (let at = 0; at < blockBytes; at += 1) {
    if (at < checksumAt || at >= checksumAt + checksumBytes) {
      const byte = block[offset + at] ?? 0;
      unsigned += byte;
      negatives += byte >> 7;
    }
  }
  if (wanted !== unsigned && wanted !== unsigned - 256 * negatives) {
    throw new InvalidArgumentError(
      `Cannot read tar header: its checksum is ${unsigned}, but it says ${wanted}`,
    );
  }
}

/** What did not fit a header that {@link writeHeader} wrote, so that a PAX record must say it. */
export type Unwritten = "path" | "linkpath" | "uid" | "gid" | "size" | "mtime";

/** Writes a ustar header to `block`, which holds zeros. Fields that do not fit are left 0 or cut, and returned. */
export function writeHeader(block: Buffer, header: Omit<Header, "isGnu">): Unwritten[] {
  const unwritten: Unwritten[] = [];
  const number = (at: number, length: number, value: number, record: Unwritten) => {
    if (!writeOctal(block, at, length, value)) {
      unwritten.push(record);
    }
  };
  if (!writeName(block, header.name)) {
    unwritten.push("path");
  }
  block.write(header.linkName, linkNameAt, linkNameBytes, "latin1");
  if (header.linkName.length > linkNameBytes) {
    unwritten.push("linkpath");
  }
  writeOctal(block, modeAt, idBytes, header.mode);
  number(uidAt, idBytes, header.uid, "uid");
  number(gidAt, idBytes, header.gid, "gid");
  number(sizeAt, longNumberBytes, header.sizeBytes, "size");
  number(mtimeAt, longNumberBytes, header.mtime, "mtime");
  block.write(header.typeFlag, typeAt, "latin1");
  block.write("ustar\x0000", magicAt, "latin1");
  writeOctal(block, majorAt, deviceBytes, header.major);
  writeOctal(block, minorAt, deviceBytes, header.minor);
  writeChecksum(block);
  return unwritten;
}

/** A name too long for its field is parted at a slash, the front going to the prefix, if there is a fitting one. */
function writeName(block: Buffer, name: ByteString): boolean {
  if (name.length <= nameBytes) {
    block.write(name, nameAt, nameBytes, "latin1");
    return true;
  }
  const slash = name.indexOf("/", name.length - nameBytes - 1);
  if (slash > 0 && slash <= prefixBytes && slash < name.length - 1) {
    block.write(name.slice(slash + 1), nameAt, nameBytes, "latin1");
    block.write(name.slice(0, slash), prefixAt, prefixBytes, "latin1");
    return true;
  }
  block.write(name, nameAt, nameBytes, "latin1");
  return false;
}

/** Six digits, a NUL, a blank: the form that every reader takes. */
function writeChecksum(block: Buffer): void {
  block.fill(0x20, checksumAt, checksumAt + checksumBytes);
  const sum = block.subarray(0, blockBytes).reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, checksumAt, "latin1");
}
