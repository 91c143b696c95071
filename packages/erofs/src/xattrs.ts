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

/** Whether EROFS has a place for attributes with the name `name`. */
export function isStorableAttribute(name: string): boolean {
  return namespaceOf(name) !== undefined;
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

function encodeEntry(name: string, value: Uint8Array): Buffer {
  const namespace = namespaceOf(name);
  if (namespace === undefined) {
    throw new InvalidArgumentError(
      `Cannot write attribute ${JSON.stringify(name)}: EROFS has no such names, want user., trusted., security. or an ACL`,
    );
  }
  const rest = Buffer.from(name.slice(namespace.prefix.length));
  if (rest.length > maxNameBytes || (rest.length === 0 && !namespace.isWholeName)) {
    throw new InvalidArgumentError(
      `Cannot write attribute ${JSON.stringify(name.slice(0, 100))}: its name has ${rest.length} bytes after the prefix, want 1 to ${maxNameBytes}`,
    );
  }
  if (value.length > maxValueBytes) {
    throw new InvalidArgumentError(
      `Cannot write attribute ${JSON.stringify(name)}: its value has ${value.length} bytes, want at most ${maxValueBytes}`,
    );
  }
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
