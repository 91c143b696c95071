import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, bytesOf, quoted } from "./byte-string.ts";
import type { Extensions } from "./extension.ts";
import { type Header, typeFlags } from "./header.ts";
import { type PaxRecords, paxNumber, paxTimeNs } from "./pax.ts";

export type EntryType =
  | "file"
  | "directory"
  | "symlink"
  | "hard link"
  | "character device"
  | "block device"
  | "fifo";

export interface Xattr {
  readonly name: ByteString;
  readonly value: Buffer;
}

/** One file of an archive, whatever headers it took to say it. */
export interface TarEntry {
  readonly type: EntryType;
  /** As the archive has it: it may be absolute, climb with `..`, end with a slash or be empty. */
  readonly name: ByteString;
  /** What a symbolic or hard link points at; else empty. */
  readonly linkName: ByteString;
  /** Permission, setuid, setgid and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of the content, holes included; 0 for all but files. */
  readonly sizeBytes: number;
  readonly modifiedNs: bigint;
  readonly accessedNs: bigint | undefined;
  /** 0 for all but devices. */
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly xattrs: readonly Xattr[];
}

/** How star and GNU tar name extended attributes in PAX records. */
export const xattrPrefix = "SCHILY.xattr.";

/** chown(2) takes -1, all bits set, for "leave as it is", so the largest id is one less. */
const maxId = 0xffff_fffe;

/** 12 and 20 bits (linux/kdev_t.h). */
const [maxMajor, maxMinor] = [0xfff, 0xf_ffff];

const noXattrs: readonly Xattr[] = [];

/**
 * The entry that `header` and the `extensions` before it describe.
 *
 * Extension headers describe the entry, never one another: a reader that takes a PAX size for that of a long-name header,
 * or not for that of the entry, loses step and sees other files than everybody else (CVE-2025-62518).
 *
 * @throws {InvalidArgumentError} for a type that no layer may have, and for numbers that no file can have.
 */
export function entryOf(header: Header, extensions: Extensions): TarEntry {
  const { pax } = extensions;
  const text = (key: string) => pax?.values.get(key) || undefined;
  const number = (key: string) => (pax === undefined ? undefined : paxNumber(pax, key));
  const time = (key: string) => (pax === undefined ? undefined : paxTimeNs(pax, key));
  // The order of precedence is that of Go's archive/tar, which most readers of layers are built on.
  const name = extensions.gnuLongName ?? text("GNU.sparse.name") ?? text("path") ?? header.name;
  const type = entryType(header.typeFlag, name);
  const sizeBytes = number("size") ?? header.sizeBytes;
  return {
    type,
    name,
    linkName: isLink(type) ? (extensions.gnuLongLink ?? text("linkpath") ?? header.linkName) : noName,
    mode: inRange(header.mode, Number.MAX_SAFE_INTEGER, "mode", name) & 0o7777,
    uid: inRange(number("uid") ?? header.uid, maxId, "uid", name),
    gid: inRange(number("gid") ?? header.gid, maxId, "gid", name),
    sizeBytes: type === "file" ? inRange(sizeBytes, Number.MAX_SAFE_INTEGER, "size", name) : 0,
    modifiedNs: time("mtime") ?? BigInt(header.mtime) * 1_000_000_000n,
    accessedNs: time("atime"),
    deviceMajor: inRange(header.major, maxMajor, "device major", name),
    deviceMinor: inRange(header.minor, maxMinor, "device minor", name),
    xattrs: pax === undefined ? noXattrs : xattrsOf(pax),
  };
}

const noName = "" as ByteString;

function isLink(type: EntryType): boolean {
  return type === "symlink" || type === "hard link";
}

function entryType(typeFlag: string, name: ByteString): EntryType {
  switch (typeFlag) {
    case typeFlags.oldFile:
      // Before POSIX there was no flag for directories (tar(5), "Old-Style Archive Format").
      return name.endsWith("/") ? "directory" : "file";
    case typeFlags.file:
    case typeFlags.contiguousFile:
    case typeFlags.gnuSparse:
      return "file";
    case typeFlags.directory:
      return "directory";
    case typeFlags.symlink:
      return "symlink";
    case typeFlags.hardLink:
      return "hard link";
    case typeFlags.characterDevice:
      return "character device";
    case typeFlags.blockDevice:
      return "block device";
    case typeFlags.fifo:
      return "fifo";
    default:
      throw new InvalidArgumentError(
        `Cannot read tar entry ${quoted(name)}: its type ${JSON.stringify(typeFlag)} is unknown, ` +
          "want a file, directory, link, device or fifo",
      );
  }
}

function inRange(value: number, max: number, field: string, name: ByteString): number {
  if (value >= 0 && value <= max) {
    return value;
  }
  throw new InvalidArgumentError(
    `Cannot read tar entry ${quoted(name)}: its ${field} is ${value}, want 0 to ${max}`,
  );
}

function xattrsOf(pax: PaxRecords): readonly Xattr[] {
  let xattrs: Xattr[] | undefined;
  for (const [key, value] of pax.values) {
    if (key.startsWith(xattrPrefix)) {
      xattrs ??= [];
      xattrs.push({ name: key.slice(xattrPrefix.length) as ByteString, value: bytesOf(value) });
    }
  }
  return xattrs ?? noXattrs;
}
