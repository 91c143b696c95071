import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type EntryFields, type Field, field, fieldNames } from "./entry-fields.ts";
import { kinds, nameOfKind, startsWith } from "./json-scanner.ts";
import { cleanName } from "./name.ts";
import { PathBytes } from "./path-bytes.ts";
import { readTime } from "./time.ts";
import { readXattrs, type Xattrs } from "./xattrs.ts";

export type EntryType =
  | "file"
  | "directory"
  | "symlink"
  | "hard link"
  | "character device"
  | "block device"
  | "fifo"
  | "chunk";

/** Names of the types in a TOC (stargz-snapshotter, docs/estargz.md, "TOCEntry"). */
const typeNames = {
  reg: "file",
  dir: "directory",
  symlink: "symlink",
  hardlink: "hard link",
  char: "character device",
  block: "block device",
  fifo: "fifo",
  chunk: "chunk",
} as const satisfies Record<string, EntryType>;

const types = Object.entries(typeNames).map(([name, type]) => ({ bytes: Buffer.from(name), type }));

/** chown(2) takes -1, all bits set, for "leave as it is". */
const maxId = 0xffff_fffe;
/** 12 and 20 bits (linux/kdev_t.h). */
const [maxMajor, maxMinor] = [0xfff, 0xf_ffff];
/** PATH_MAX without the NUL (linux/limits.h). */
const maxTargetBytes = 4095;

/** "sha256:" and 64 hex digits. */
const digestPrefix = Buffer.from("sha256:");
const digestBytes = 32;
const digestTextBytes = digestPrefix.length + 2 * digestBytes;

/** Of each byte what it is as a lower-case hex digit; 16 and more: it is none. */
const nibbles = Uint8Array.from({ length: 256 }, (_, byte) => {
  const value = "0123456789abcdef".indexOf(String.fromCharCode(byte));
  return value === -1 ? 0xff : value;
});

/**
 * One entry of a TOC, checked as far as that can be done without the others. There is one of these for all entries: it says
 * what the last {@link read} has found.
 */
export class TocEntry {
  type: EntryType = "chunk";
  /** Relative to the root, which is ""; without "." and "..". */
  readonly name: PathBytes = new PathBytes();
  /** What a hard link points at, like {@link name}. */
  readonly linkName: PathBytes = new PathBytes();
  /** What a symbolic link points at, as it is. */
  target: Buffer = Buffer.alloc(0);
  /** Permission, setuid, setgid and sticky bits. */
  mode = 0;
  uid = 0;
  gid = 0;
  /** Since 1970; the second counts up. */
  seconds = 0;
  nanos = 0;
  deviceMajor = 0;
  deviceMinor = 0;
  xattrs: Xattrs | undefined;
  /** Of the whole file, whatever the entry is of it. */
  sizeBytes = 0;
  /** In the file. */
  chunkOffset = 0;
  /** 0: the chunk goes to the end of the file. */
  chunkBytes = 0;
  /** Of the whole file; of what use it is if there is none nobody can say. */
  hasDigest = false;
  readonly digest: Uint8Array = new Uint8Array(digestBytes);
  hasChunkDigest = false;
  readonly chunkDigest: Uint8Array = new Uint8Array(digestBytes);
  /** The chunk is zeros, and not in the blob. */
  isHole = false;
  /** Of the member in the blob; where it ends is 0 if nobody says. */
  offset = 0;
  endOffset = 0;
  /** Of the chunk in its member, decompressed. */
  innerOffset = 0;

  /**
   * Reads entry number `index`.
   *
   * @throws {InvalidArgumentError} naming the field that is not as it has to be.
   */
  read(fields: EntryFields, index: number): void {
    const type = entryType(fields, index);
    this.type = type;
    readName(fields, index, field.name, this.name);
    if (type === "hard link") {
      readName(fields, index, field.linkName, this.linkName);
    } else if (type === "symlink") {
      this.target = linkTarget(fields, index);
    }
    // Some writers add the bits of the file type.
    this.mode = number(fields, index, field.mode, Number.MAX_SAFE_INTEGER) & 0o7777;
    this.uid = number(fields, index, field.uid, maxId);
    this.gid = number(fields, index, field.gid, maxId);
    this.#readTime(fields, index);
    this.deviceMajor = number(fields, index, field.devMajor, maxMajor);
    this.deviceMinor = number(fields, index, field.devMinor, maxMinor);
    this.xattrs = isAbsent(fields, field.xattrs) ? undefined : this.#xattrs(fields, index);
    this.sizeBytes = type === "file" ? number(fields, index, field.size, Number.MAX_SAFE_INTEGER) : 0;
    this.chunkOffset = number(fields, index, field.chunkOffset, Number.MAX_SAFE_INTEGER);
    this.chunkBytes = number(fields, index, field.chunkSize, Number.MAX_SAFE_INTEGER);
    this.hasChunkDigest = readDigest(fields, index, field.chunkDigest, this.chunkDigest);
    this.hasDigest = readDigest(fields, index, field.digest, this.digest);
    this.isHole = text(fields, index, field.chunkType) === "zeros";
    this.offset = number(fields, index, field.offset, Number.MAX_SAFE_INTEGER);
    this.endOffset = number(fields, index, field.endOffset, Number.MAX_SAFE_INTEGER);
    this.innerOffset = number(fields, index, field.innerOffset, Number.MAX_SAFE_INTEGER);
  }

  #readTime(fields: EntryFields, index: number): void {
    this.seconds = 0;
    this.nanos = 0;
    if (isEmptyText(fields, index, field.modtime)) {
      return;
    }
    const { bytes, start, end } = bytesOf(fields, field.modtime);
    if (!readTime(bytes, start, end, this)) {
      const shown = JSON.stringify(fields.textOf(field.modtime).slice(0, 50));
      throw fieldError(index, field.modtime, `it is ${shown}, want a time as in RFC 3339`);
    }
  }

  #xattrs(fields: EntryFields, index: number): Xattrs {
    return readXattrs(fields, (reason) => fieldError(index, field.xattrs, reason));
  }
}

/** An error about a field of entry number `index`. */
function fieldError(index: number, key: Field, reason: string, options?: ErrorOptions): InvalidArgumentError {
  return new InvalidArgumentError(
    `Cannot read TOC: entries[${index}].${fieldNames[key]}: ${reason}`,
    options,
  );
}

/** What JSON has none of, or null: Go writes what is empty as that. */
function isAbsent(fields: EntryFields, key: Field): boolean {
  return fields.kindOf(key) <= kinds.null;
}

/** Whether the text is absent, which is the same as "". */
function isEmptyText(fields: EntryFields, index: number, key: Field): boolean {
  if (isAbsent(fields, key)) {
    return true;
  }
  requireText(fields, index, key);
  return fields.starts[key] === fields.ends[key];
}

function requireText(fields: EntryFields, index: number, key: Field): void {
  const kind = fields.kindOf(key);
  if (kind !== kinds.text) {
    const what = kind <= kinds.null ? "missing" : nameOfKind(kind);
    throw fieldError(index, key, `it is ${what}, want a text`);
  }
}

function text(fields: EntryFields, index: number, key: Field): string {
  return isEmptyText(fields, index, key) ? "" : fields.textOf(key);
}

/** The number; what is absent is 0. */
function number(fields: EntryFields, index: number, key: Field, max: number): number {
  const kind = fields.kindOf(key);
  if (kind <= kinds.null) {
    return 0;
  }
  const value = fields.numbers[key] ?? 0;
  if (kind !== kinds.number || !Number.isSafeInteger(value) || value < 0) {
    throw fieldError(index, key, `it is ${nameOfKind(kind)}, want a whole number of at least 0`);
  }
  if (value > max) {
    throw fieldError(index, key, `it is ${value}, want at most ${max}`);
  }
  return value;
}

/** @returns whether there is one. */
function readDigest(fields: EntryFields, index: number, key: Field, target: Uint8Array): boolean {
  if (isEmptyText(fields, index, key)) {
    return false;
  }
  const { bytes, start, end } = bytesOf(fields, key);
  if (end - start !== digestTextBytes || !decodeDigest(bytes, start, target)) {
    throw fieldError(index, key, 'it is no digest, want "sha256:" and 64 lower-case hex digits');
  }
  return true;
}

/** @returns whether it is one. */
function decodeDigest(bytes: Buffer, start: number, target: Uint8Array): boolean {
  if (!startsWith(bytes, start, digestPrefix)) {
    return false;
  }
  let wrong = 0;
  for (let index = 0, at = start + digestPrefix.length; index < digestBytes; index += 1, at += 2) {
    const high = nibbles[bytes[at] ?? 0] ?? 0;
    const low = nibbles[bytes[at + 1] ?? 0] ?? 0;
    wrong |= high | low;
    target[index] = (high << 4) | low;
  }
  return wrong < 16;
}

/** Where the bytes are that a text means. */
function bytesOf(fields: EntryFields, key: Field): { bytes: Buffer; start: number; end: number } {
  if (fields.isPlain[key] === 1) {
    return { bytes: fields.scanner.bytes, start: fields.starts[key] ?? 0, end: fields.ends[key] ?? 0 };
  }
  const bytes = Buffer.from(fields.textOf(key));
  return { bytes, start: 0, end: bytes.length };
}

/** Text that is a path: see {@link cleanName}. */
function readName(fields: EntryFields, index: number, key: Field, path: PathBytes): void {
  requireText(fields, index, key);
  const isClean =
    fields.isPlain[key] === 1 &&
    path.set(fields.scanner.bytes, fields.starts[key] ?? 0, fields.ends[key] ?? 0);
  if (isClean) {
    return;
  }
  let cleaned: Buffer;
  try {
    cleaned = Buffer.from(cleanName(fields.textOf(key)));
  } catch (cause) {
    throw fieldError(index, key, cause instanceof Error ? cause.message : String(cause), { cause });
  }
  path.set(cleaned, 0, cleaned.length);
}

function entryType(fields: EntryFields, index: number): EntryType {
  requireText(fields, index, field.type);
  const { bytes, start, end } = bytesOf(fields, field.type);
  for (const candidate of types) {
    if (end - start === candidate.bytes.length && startsWith(bytes, start, candidate.bytes)) {
      return candidate.type;
    }
  }
  const type = JSON.stringify(fields.textOf(field.type).slice(0, 50));
  throw fieldError(index, field.type, `it is ${type}, want one of ${Object.keys(typeNames).join(", ")}`);
}

/** A link may point anywhere: whoever follows it does so in the container. */
function linkTarget(fields: EntryFields, index: number): Buffer {
  requireText(fields, index, field.linkName);
  const { bytes, start, end } = bytesOf(fields, field.linkName);
  const isRight = fields.isPlain[field.linkName] === 1 || fields.textOf(field.linkName).isWellFormed();
  // Its own: the bytes that it is in are soon others.
  const target = Buffer.from(bytes.subarray(start, end));
  if (!isRight || target.length === 0 || target.length > maxTargetBytes || target.includes(0)) {
    throw fieldError(index, field.linkName, `want 1 to ${maxTargetBytes} bytes without NUL`);
  }
  return target;
}
