import { InvalidArgumentError } from "@oci-worker/errdefs";

/** Numbers that stand for the beginnings of names (Linux, fs/erofs/erofs_fs.h, EROFS_XATTR_INDEX_*). */
const namespaces = [
  { prefix: "system.posix_acl_access", index: 2, isWholeName: true },
  { prefix: "system.posix_acl_default", index: 3, isWholeName: true },
  { prefix: "user.", index: 1, isWholeName: false },
  { prefix: "trusted.", index: 4, isWholeName: false },
  { prefix: "security.", index: 6, isWholeName: false },
] as const;

const headerBytes = 12;
const entryBytes = 4;
const alignment = 4;

const maxNameBytes = 255;
const maxValueBytes = 0xffff;

/** The inode counts its attributes in units of {@link alignment}, with 16 bits. */
const maxBodyBytes = headerBytes + alignment * (0xffff - 1);

/**
 * Parts the attributes of one file in those that an image has a place for, and the names of the others: EROFS knows few
 * namespaces, and bounds the length of names, of values, and of all of them together.
 */
export function storableXattrs(xattrs: ReadonlyMap<string, Uint8Array>): {
  kept: ReadonlyMap<string, Uint8Array>;
  left: readonly string[];
} {
  const kept = new Map<string, Uint8Array>();
  const left: string[] = [];
  let bytes = headerBytes;
  for (const [name, value] of xattrs) {
    const more = obstacleTo(name, value) === undefined ? encodeEntry(name, value).length : Infinity;
    if (bytes + more > maxBodyBytes) {
      left.push(name);
    } else {
      kept.set(name, value);
      bytes += more;
    }
  }
  return { kept, left };
}

function namespaceOf(name: string) {
  return namespaces.find(({ prefix, isWholeName }) =>
    isWholeName ? name === prefix : name.startsWith(prefix),
  );
}

/**
 * The attributes of one file as they follow its inode; empty if it has none.
 *
 * @throws {InvalidArgumentError} naming the attribute that EROFS cannot keep.
 */
export function encodeXattrs(xattrs: ReadonlyMap<string, Uint8Array>): Buffer {
  if (xattrs.size === 0) {
    return none;
  }
  const parts: Buffer[] = [Buffer.alloc(headerBytes)];
  let bytes = headerBytes;
  // In the order of their names, so that equal trees become equal images.
  for (const [name, value] of [...xattrs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const entry = encodeEntry(name, value);
    parts.push(entry);
    bytes += entry.length;
  }
  if (bytes > maxBodyBytes) {
    throw new InvalidArgumentError(
      `Cannot write attributes: together they take ${bytes} bytes, want at most ${maxBodyBytes} for one file`,
    );
  }
  return Buffer.concat(parts);
}

const none = Buffer.alloc(0);

/** Why there is no place for an attribute, whatever else the file has. */
function obstacleTo(name: string, value: Uint8Array): string | undefined {
  const namespace = namespaceOf(name);
  if (namespace === undefined) {
    return "EROFS has no such names, want user., trusted., security. or an ACL";
  }
  const rest = Buffer.byteLength(name) - namespace.prefix.length;
  if (rest > maxNameBytes || (rest === 0 && !namespace.isWholeName) || name.includes("\0")) {
    return `its name has ${rest} bytes after the prefix, want 1 to ${maxNameBytes} without NUL`;
  }
  return value.length > maxValueBytes
    ? `its value has ${value.length} bytes, want at most ${maxValueBytes}`
    : undefined;
}

function encodeEntry(name: string, value: Uint8Array): Buffer {
  const namespace = namespaceOf(name);
  const obstacle = obstacleTo(name, value);
  if (namespace === undefined || obstacle !== undefined) {
    throw new InvalidArgumentError(
      `Cannot write attribute ${JSON.stringify(name.slice(0, 100))}: ${obstacle}`,
    );
  }
  const rest = Buffer.from(name.slice(namespace.prefix.length));
  const unpadded = entryBytes + rest.length + value.length;
  const entry = Buffer.alloc(Math.ceil(unpadded / alignment) * alignment);
  entry[0] = rest.length;
  entry[1] = namespace.index;
  entry.writeUInt16LE(value.length, 2);
  entry.set(rest, entryBytes);
  entry.set(value, entryBytes + rest.length);
  return entry;
}

/** What an inode says of the length of its attributes. */
export function xattrCount(encoded: Buffer): number {
  return encoded.length === 0 ? 0 : (encoded.length - headerBytes) / alignment + 1;
}

/** How many bytes of attributes follow an inode that says {@link xattrCount} of them. */
export function xattrBytes(count: number): number {
  return count === 0 ? 0 : headerBytes + (count - 1) * alignment;
}

/** The attributes in `encoded`, as {@link encodeXattrs} has made it: their names and where their values are. */
export function* decodeXattrs(encoded: Buffer): Generator<{ name: string; value: Buffer }> {
  for (let at = headerBytes; at + entryBytes <= encoded.length; ) {
    const [nameBytes = 0, index] = [encoded[at], encoded[at + 1]];
    const valueAt = at + entryBytes + nameBytes;
    const end = valueAt + encoded.readUInt16LE(at + 2);
    const prefix = namespaces.find((each) => each.index === index)?.prefix;
    if (prefix !== undefined) {
      const name = prefix + encoded.toString("utf8", at + entryBytes, valueAt);
      yield { name, value: encoded.subarray(valueAt, end) };
    }
    at = Math.ceil(end / alignment) * alignment;
  }
}
