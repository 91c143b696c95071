import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type ByteString, byteString, byteStringOf, bytesOf, quoted } from "./byte-string.ts";
import { type EntryType, xattrPrefix } from "./entry.ts";
import { blockBytes, typeFlags, type Unwritten, writeHeader } from "./header.ts";
import { paxTimeOf, writePax } from "./pax.ts";

/** A file to put into an archive. What is left out is 0 or empty, the mode the usual one. */
export interface TarMember {
  readonly type: EntryType;
  /** Bytes where a name is not UTF-8. */
  readonly name: string | Buffer;
  /** What a symbolic or hard link points at. */
  readonly linkName?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Since 1970. */
  readonly modifiedNs?: bigint;
  readonly deviceMajor?: number;
  readonly deviceMinor?: number;
  readonly xattrs?: Readonly<Record<string, Buffer>>;
  /** Of a file. Pieces need {@link sizeBytes}, because the header comes first. */
  readonly content?: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  readonly sizeBytes?: number;
}

export interface TarWriterOptions {
  /** Write nanoseconds of modification times, as PAX records. Else times are whole seconds. Default: false. */
  readonly exactTimes?: boolean;
}

const typeFlagOf = {
  file: typeFlags.file,
  directory: typeFlags.directory,
  symlink: typeFlags.symlink,
  "hard link": typeFlags.hardLink,
  "character device": typeFlags.characterDevice,
  "block device": typeFlags.blockDevice,
  fifo: typeFlags.fifo,
} as const satisfies Record<EntryType, string>;

function defaultMode(type: EntryType): number {
  return type === "directory" ? 0o755 : type === "symlink" ? 0o777 : 0o644;
}

/** Two blocks of zeros end an archive (POSIX pax). No more of them than that: nothing here reads from tapes. */
export const endOfArchive: Buffer = Buffer.alloc(2 * blockBytes);

const nanosPerSecond = 1_000_000_000n;

/**
 * Writes `members` as a tar archive, in their order.
 *
 * The same members give the same bytes: ustar headers, with PAX records only where ustar has not the room, in a fixed
 * order, no time but that of the members, no names of users or groups.
 *
 * @throws {InvalidArgumentError} if a content is not as long as its member says.
 */
export async function* writeTar(
  members: Iterable<TarMember> | AsyncIterable<TarMember>,
  options: TarWriterOptions = {},
): AsyncGenerator<Uint8Array> {
  for await (const member of members) {
    const { content } = member;
    const pieces = content === undefined ? [] : content instanceof Uint8Array ? [content] : content;
    const sizeBytes = content instanceof Uint8Array ? content.length : (member.sizeBytes ?? 0);
    yield tarHeaders(member, sizeBytes, options);
    yield* checkedContent(nameOf(member), pieces, sizeBytes);
    yield tarPadding(sizeBytes);
  }
  yield endOfArchive;
}

async function* checkedContent(
  name: ByteString,
  content: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  sizeBytes: number,
): AsyncGenerator<Uint8Array> {
  let written = 0;
  for await (const piece of content) {
    written += piece.length;
    if (written > sizeBytes) {
      break;
    }
    yield piece;
  }
  if (written !== sizeBytes) {
    throw new InvalidArgumentError(
      `Cannot write ${quoted(name)} to tar: its content has ${written > sizeBytes ? "more than" : "only"} ` +
        `${Math.min(written, sizeBytes)} bytes, want ${sizeBytes}`,
    );
  }
}

/** What stands between a content of `sizeBytes` and the next header. */
export function tarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc(-sizeBytes & (blockBytes - 1));
}

/**
 * The header of `member`, and before it the one with the PAX records that it takes; `sizeBytes` is that of its content.
 *
 * For who has to know where in an archive the contents stand; all others take {@link writeTar}.
 */
export function tarHeaders(member: TarMember, sizeBytes: number, options: TarWriterOptions = {}): Buffer {
  const { type, uid = 0, gid = 0, modifiedNs = 0n } = member;
  const linkName = byteStringOf(member.linkName ?? "");
  const name = nameOf(member);
  const fraction = ((modifiedNs % nanosPerSecond) + nanosPerSecond) % nanosPerSecond;
  const header = Buffer.alloc(blockBytes);
  const unwritten = new Set<Unwritten>(
    writeHeader(header, {
      typeFlag: typeFlagOf[type],
      name,
      linkName,
      mode: member.mode ?? defaultMode(type),
      uid,
      gid,
      sizeBytes,
      // Rounded down, so that what reads only this is never in the future of what reads the record.
      mtime: Number((modifiedNs - fraction) / nanosPerSecond),
      major: member.deviceMajor ?? 0,
      minor: member.deviceMinor ?? 0,
    }),
  );
  if (options.exactTimes === true && fraction !== 0n) {
    unwritten.add("mtime");
  }
  const seconds = options.exactTimes === true ? modifiedNs : modifiedNs - fraction;
  const records = paxRecords(unwritten, {
    path: name,
    linkpath: linkName,
    size: decimal(sizeBytes),
    uid: decimal(uid),
    gid: decimal(gid),
    mtime: paxTimeOf(seconds),
  });
  for (const [attribute, value] of Object.entries(member.xattrs ?? {}).sort()) {
    records.set(`${xattrPrefix}${byteStringOf(attribute)}`, byteString(value));
  }
  return records.size === 0 ? header : Buffer.concat([paxHeader(name, records), header]);
}

/** Directories end with a slash, for readers that know no type flags. */
function nameOf({ type, name }: TarMember): ByteString {
  const bytes = byteStringOf(name);
  return type === "directory" && !bytes.endsWith("/") ? (`${bytes}/` as ByteString) : bytes;
}

function decimal(value: number): ByteString {
  return String(value) as ByteString;
}

function paxRecords(
  unwritten: ReadonlySet<Unwritten>,
  values: Readonly<Record<Unwritten, ByteString>>,
): Map<string, ByteString> {
  const records = new Map<string, ByteString>();
  const keys = (["path", "linkpath", "size", "uid", "gid", "mtime"] as const).filter((key) =>
    unwritten.has(key),
  );
  if (keys.some((key) => !isUtf8(values[key]))) {
    records.set("hdrcharset", "BINARY" as ByteString);
  }
  for (const key of keys) {
    records.set(key, values[key]);
  }
  return records;
}

function isUtf8(name: ByteString): boolean {
  const bytes = bytesOf(name);
  return Buffer.from(bytes.toString()).equals(bytes);
}

function paxHeader(name: ByteString, records: ReadonlyMap<string, ByteString>): Buffer {
  const body = writePax(records);
  const padded = Buffer.alloc(blockBytes + Math.ceil(body.length / blockBytes) * blockBytes);
  // The name is only for programs that do not know PAX; GNU tar's own looks like this.
  const base = name.slice(name.lastIndexOf("/", name.length - 2) + 1).slice(0, 80);
  writeHeader(padded, {
    typeFlag: typeFlags.pax,
    name: `PaxHeaders/${base}` as ByteString,
    linkName: "" as ByteString,
    mode: 0o644,
    uid: 0,
    gid: 0,
    sizeBytes: body.length,
    mtime: 0,
    major: 0,
    minor: 0,
  });
  body.copy(padded, blockBytes);
  return padded;
}
