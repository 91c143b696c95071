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
  const fields = new Fields("TOC", object, `entries[${index}]`);
  const number = (key: string, max = Number.MAX_SAFE_INTEGER) => {
    const value = fields.has(key) ? fields.size(key) : 0;
    if (value > max) {
      throw fields.error(key, `it is ${value}, want at most ${max}`);
    }
    return value;
  };
  const digest = (key: string) => {
    const text = fields.text(key) || undefined;
    if (text !== undefined && !isDigest(text)) {
      throw fields.error(key, 'it is no digest, want "sha256:" and 64 lower-case hex digits');
    }
    return text;
  };
  const name = (key: string) => fields.parsed(key, cleanName);
  const type = entryType(fields);
  const fileDigest = digest("digest");
  return {
    type,
    name: name("name"),
    linkName: type === "hard link" ? name("linkName") : type === "symlink" ? linkTarget(fields) : "",
    // Some writers add the bits of the file type.
    mode: number("mode") & 0o7777,
    uid: number("uid", maxId),
    gid: number("gid", maxId),
    modifiedNs: modifiedNs(fields),
    deviceMajor: number("devMajor", maxMajor),
    deviceMinor: number("devMinor", maxMinor),
    xattrs: xattrs(fields),
    sizeBytes: type === "file" ? number("size") : 0,
    digest: fileDigest,
    chunkOffset: number("chunkOffset"),
    chunkBytes: number("chunkSize"),
    // Mostly the same, and then one text in memory.
    chunkDigest: object["chunkDigest"] === fileDigest ? fileDigest : digest("chunkDigest"),
    isHole: fields.text("chunkType") === "zeros",
    offset: number("offset"),
    endOffset: number("endOffset"),
    innerOffset: number("innerOffset"),
  };
}

function entryType(fields: Fields): EntryType {
  const name = fields.requiredText("type");
  if (!Object.hasOwn(typeNames, name)) {
    throw fields.error(
      "type",
      `it is ${JSON.stringify(name.slice(0, 50))}, want one of ${Object.keys(typeNames).join(", ")}`,
    );
  }
  return typeNames[name as keyof typeof typeNames];
}

/** A link may point anywhere: whoever follows it does so in the container. */
function linkTarget(fields: Fields): string {
  const target = fields.requiredText("linkName");
  if (target === "" || target.includes("\0") || !target.isWellFormed() || Buffer.byteLength(target) >= 4096) {
    throw fields.error("linkName", "want 1 to 4095 bytes without NUL");
  }
  return target;
}

const rfc3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/** The last one that was read: many files of a layer have the same, one after the other. */
let lastTime = { text: "", ns: 0n };

function modifiedNs(fields: Fields): bigint {
  const text = fields.text("modtime");
  if (text === undefined || text === "") {
    return 0n;
  }
  if (text !== lastTime.text) {
    lastTime = { text, ns: timeNs(text, fields) };
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

function xattrs(fields: Fields): ReadonlyMap<string, Buffer> {
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
