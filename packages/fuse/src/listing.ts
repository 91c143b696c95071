import type { Listed } from "./file-system.ts";
import { dirent, entryOut } from "./protocol.ts";

export interface ListingPlace {
  /** Number of the first name. */
  readonly from: number;
  /** Room for so many bytes. */
  readonly size: number;
  readonly reply: Buffer;
  readonly at: number;
  /** Writes struct fuse_entry_out for READDIRPLUS; undefined for READDIR. */
  readonly writeEntry: ((node: number, at: number) => boolean) | undefined;
}

/** Where in the mode of a file its type begins, which is all that a directory tells of it. */
const typeShift = 12;

/** Writes as many names of a directory as there is room for. @returns how many bytes they take. */
export function writeListing(names: Iterator<Listed>, place: ListingPlace): number {
  const { from, size, reply, at, writeEntry } = place;
  const entryBytes = writeEntry === undefined ? 0 : entryOut.bytes;
  let used = 0;
  for (let number = from; ; number += 1) {
    const next = names.next();
    if (next.done === true) {
      return used;
    }
    const { node, typeBits, name } = next.value;
    const bytes = entryBytes + padded(dirent.bytes + name.length);
    if (used + bytes > size) {
      return used;
    }
    let here = at + used;
    if (writeEntry !== undefined) {
      // The kernel keeps no entries for the two names of dots, and does not count a use of their nodes.
      writeEntry(isDots(name) ? 0 : node, here);
      here += entryBytes;
    }
    reply.fill(0, here, here + padded(dirent.bytes + name.length));
    reply.writeUInt32LE(node % 2 ** 32, here);
    reply.writeUInt32LE(Math.floor(node / 2 ** 32), here + 4);
    reply.writeUInt32LE(number + 1, here + dirent.next);
    reply.writeUInt32LE(name.length, here + dirent.nameLength);
    reply.writeUInt32LE(typeBits >>> typeShift, here + dirent.type);
    reply.set(name, here + dirent.bytes);
    used += bytes;
  }
}

function padded(bytes: number): number {
  return Math.ceil(bytes / dirent.alignment) * dirent.alignment;
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name.every((byte) => byte === 0x2e);
}
