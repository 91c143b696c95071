import { bytesOf } from "@oci-worker/layer/tar/byte-string";
import type { EntryType, TarEntry } from "@oci-worker/layer/tar/entry";
import type { Digest } from "@oci-worker/oci/digest";

/** An entry of a TOC as JSON has it, in the order of its keys. What is 0 or empty is left out. */
export interface TocLine {
  readonly name: string;
  readonly type: string;
  readonly size?: number;
  readonly modtime?: string;
  readonly linkName?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  offset?: number;
  innerOffset?: number;
  readonly devMajor?: number;
  readonly devMinor?: number;
  readonly xattrs?: Readonly<Record<string, string>>;
  digest?: Digest;
  chunkOffset?: number;
  chunkSize?: number;
  chunkDigest?: Digest;
}

const typeNames = {
  file: "reg",
  directory: "dir",
  symlink: "symlink",
  "hard link": "hardlink",
  "character device": "char",
  "block device": "block",
  fifo: "fifo",
} as const satisfies Record<EntryType, string>;

/**
 * The line for `entry`, without where its content is.
 *
 * @param target of a hard link, the name of the file that it is to, as that file's line has it.
 */
export function tocLine(entry: TarEntry, name: string, target: string | undefined): TocLine {
  const xattrs = entry.xattrs
    .map(({ name: key, value }) => [bytesOf(key).toString(), value.toString("base64")] as const)
    .toSorted(([one], [other]) => (one < other ? -1 : 1));
  const linkName = target ?? bytesOf(entry.linkName).toString();
  return {
    name,
    type: typeNames[entry.type],
    ...(entry.sizeBytes > 0 && { size: entry.sizeBytes }),
    ...(entry.modifiedNs !== 0n && { modtime: rfc3339(entry.modifiedNs) }),
    ...(linkName !== "" && { linkName }),
    ...(entry.mode !== 0 && { mode: entry.mode }),
    ...(entry.uid !== 0 && { uid: entry.uid }),
    ...(entry.gid !== 0 && { gid: entry.gid }),
    ...(entry.deviceMajor !== 0 && { devMajor: entry.deviceMajor }),
    ...(entry.deviceMinor !== 0 && { devMinor: entry.deviceMinor }),
    ...(xattrs.length > 0 && { xattrs: Object.fromEntries(xattrs) }),
  };
}

const nanosPerSecond = 1_000_000_000n;

/** With a fraction where there is one: readers that know only whole seconds drop it. */
function rfc3339(ns: bigint): string {
  const fraction = ((ns % nanosPerSecond) + nanosPerSecond) % nanosPerSecond;
  const whole = new Date(Number((ns - fraction) / 1_000_000n)).toISOString().slice(0, -".000Z".length);
  const digits = fraction.toString().padStart(9, "0").replace(/0+$/, "");
  return `${whole}${digits && "."}${digits}Z`;
}

/** The JSON of a TOC, one line an entry. */
export function tocJson(lines: readonly TocLine[]): Buffer {
  const pieces: Buffer[] = [Buffer.from('{"version":1,"entries":[\n')];
  // In groups, because a million small buffers cost more than what is in them.
  for (let at = 0; at < lines.length; at += linesAtOnce) {
    const text = lines
      .slice(at, at + linesAtOnce)
      .map((line) => JSON.stringify(line))
      .join(",\n");
    pieces.push(Buffer.from(`${at === 0 ? "" : ",\n"}${text}`));
  }
  pieces.push(Buffer.from("\n]}"));
  return Buffer.concat(pieces);
}

const linesAtOnce = 1000;
