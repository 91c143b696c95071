import { type Digest, isDigest } from "@oci-worker/oci/digest";
import { Fields, type JsonObject } from "@oci-worker/oci/document";
import { cleanName } from "./name.ts";

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

/** One entry of a TOC, checked as far as that can be done without the others. */
export interface TocEntry {
  readonly type: EntryType;
  /** Relative to the root, which is ""; without "." and "..". */
  readonly name: string;
  /** What a symbolic link points at as it is, what a hard link points at like {@link name}. */
  readonly linkName: string;
  /** Permission, setuid, setgid and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Since 1970. */
  readonly modifiedNs: bigint;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** Of the whole file, whatever the entry is of it. */
  readonly sizeBytes: number;
  /** Of the whole file. */
  readonly digest: Digest | undefined;
  /** In the file. */
  readonly chunkOffset: number;
  /** 0: the chunk goes to the end of the file. */
  readonly chunkBytes: number;
  readonly chunkDigest: Digest | undefined;
  /** The chunk is zeros, and not in the blob. */
  readonly isHole: boolean;
  /** Of the member in the blob; where it ends is 0 if nobody says. */
  readonly offset: number;
  readonly endOffset: number;
  /** Of the chunk in its member, decompressed. */
  readonly innerOffset: number;
}

/** chown(2) takes -1, all bits set, for "leave as it is". */
const maxId = 0xffff_fffe;
/** 12 and 20 bits (linux/kdev_t.h). */
const [maxMajor, maxMinor] = [0xfff, 0xf_ffff];
/** XATTR_NAME_MAX and XATTR_SIZE_MAX (linux/limits.h). */
const [maxXattrNameBytes, maxXattrBytes] = [255, 65_536];

const noXattrs: ReadonlyMap<string, Buffer> = new Map();

/**
 * Checks entry number `index`.
 *
 * @throws {InvalidArgumentError} naming the field that is not as it has to be.
 */
export function tocEntry(object: JsonObject, index: number): TocEntry {
  const type = entryType(object, index);
  const fileDigest = digest(object, index, "digest");
  return {
    type,
    name: name(object, index, "name"),
    linkName:
      type === "hard link"
        ? name(object, index, "linkName")
        : type === "symlink"
          ? linkTarget(object, index)
          : "",
    // Some writers add the bits of the file type.
    mode: number(object, index, "mode") & 0o7777,
    uid: number(object, index, "uid", maxId),
    gid: number(object, index, "gid", maxId),
    modifiedNs: modifiedNs(object, index),
    deviceMajor: number(object, index, "devMajor", maxMajor),
    deviceMinor: number(object, index, "devMinor", maxMinor),
    xattrs: xattrs(object, index),
    sizeBytes: type === "file" ? number(object, index, "size") : 0,
    digest: fileDigest,
    chunkOffset: number(object, index, "chunkOffset"),
    chunkBytes: number(object, index, "chunkSize"),
    // Mostly the same, and then one text in memory.
    chunkDigest: object["chunkDigest"] === fileDigest ? fileDigest : digest(object, index, "chunkDigest"),
    isHole: text(object, index, "chunkType") === "zeros",
    offset: number(object, index, "offset"),
    endOffset: number(object, index, "endOffset"),
    innerOffset: number(object, index, "innerOffset"),
  };
}

/** For errors, and for what is rare: there are twenty fields in each of a hundred thousand entries. */
function fieldsOf(object: JsonObject, index: number): Fields {
  return new Fields("TOC", object, `entries[${index}]`);
}

/** The text at `key`; what is absent is "". */
function text(object: JsonObject, index: number, key: string): string {
  const value = object[key];
  return typeof value === "string" ? value : absent(value) ? "" : (fieldsOf(object, index).text(key) ?? "");
}

/** What JSON has none of, or null: Go writes what is empty as that. An own key has no value of another. */
function absent(value: unknown): boolean {
  return value === undefined || value === null;
}

/** The number at `key`; what is absent is 0. */
function number(object: JsonObject, index: number, key: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = object[key];
  if (absent(value)) {
    return 0;
  }
  const isRight = typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
  const size = isRight ? value : fieldsOf(object, index).size(key);
  if (size > max) {
    throw fieldsOf(object, index).error(key, `it is ${size}, want at most ${max}`);
  }
  return size;
}

function digest(object: JsonObject, index: number, key: string): Digest | undefined {
  const value = text(object, index, key);
  if (value === "") {
    return undefined;
  }
  if (!isDigest(value)) {
    throw fieldsOf(object, index).error(key, 'it is no digest, want "sha256:" and 64 lower-case hex digits');
  }
  return value;
}

/** Text that is a path: see {@link cleanName}. */
function name(object: JsonObject, index: number, key: string): string {
  const value = object[key];
  try {
    if (typeof value === "string") {
      return cleanName(value);
    }
  } catch {
    // Told below, with the place.
  }
  return fieldsOf(object, index).parsed(key, cleanName);
}

function entryType(object: JsonObject, index: number): EntryType {
  const type = typeNames[object["type"] as keyof typeof typeNames];
  return typeof type === "string" ? type : unknownType(object, index);
}

function unknownType(object: JsonObject, index: number): never {
  const fields = fieldsOf(object, index);
  const type = JSON.stringify(fields.requiredText("type").slice(0, 50));
  throw fields.error("type", `it is ${type}, want one of ${Object.keys(typeNames).join(", ")}`);
}

/** A link may point anywhere: whoever follows it does so in the container. */
function linkTarget(object: JsonObject, index: number): string {
  const fields = fieldsOf(object, index);
  const target = fields.requiredText("linkName");
  if (target === "" || target.includes("\0") || !target.isWellFormed() || Buffer.byteLength(target) >= 4096) {
    throw fields.error("linkName", "want 1 to 4095 bytes without NUL");
  }
  return target;
}

const rfc3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/** The last one that was read: many files of a layer have the same, one after the other. */
let lastTime = { text: "", ns: 0n };

function modifiedNs(object: JsonObject, index: number): bigint {
  const time = text(object, index, "modtime");
  if (time === "") {
    return 0n;
  }
  if (time !== lastTime.text) {
    lastTime = { text: time, ns: timeNs(time, fieldsOf(object, index)) };
  }
  return lastTime.ns;
}

function timeNs(text: string, fields: Fields): bigint {
  const [, seconds, fraction = "", zone] = rfc3339.exec(text) ?? [];
  const ms = Date.parse(`${seconds}${zone}`);
  if (Number.isNaN(ms)) {
    throw fields.error("modtime", `it is ${JSON.stringify(text.slice(0, 50))}, want a time as in RFC 3339`);
  }
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}

const base64 = /^[A-Za-z0-9+/]*={0,2}$/;

function xattrs(object: JsonObject, index: number): ReadonlyMap<string, Buffer> {
  if (absent(object["xattrs"])) {
    return noXattrs;
  }
  const fields = fieldsOf(object, index);
  const texts = fields.textMap("xattrs");
  if (texts === undefined) {
    return noXattrs;
  }
  const values = new Map<string, Buffer>();
  for (const [name, text] of Object.entries(texts)) {
    const value = Buffer.from(text, "base64");
    const isName = name !== "" && !name.includes("\0") && Buffer.byteLength(name) <= maxXattrNameBytes;
    if (!isName || !base64.test(text) || value.length > maxXattrBytes) {
      throw fields.error(
        "xattrs",
        `${JSON.stringify(name.slice(0, 100))} is malformed, want a name of at most ${maxXattrNameBytes} bytes ` +
          `and in base64 at most ${maxXattrBytes} bytes`,
      );
    }
    values.set(name, value);
  }
  return values;
}
