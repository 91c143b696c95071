import { InvalidArgumentError } from "@oci-worker/errdefs";
import { blockBytes, type Directory, type Node } from "./node.ts";

/** A name in a directory, `.` and `..` among them. */
export interface DirectoryEntry {
  readonly name: string;
  readonly nameBytes: number;
  readonly node: Node;
}

/** Entries of one block of a directory: from the index `from` up to, and without, `to`. */
export interface DirectoryBlock {
  readonly from: number;
  readonly to: number;
  readonly usedBytes: number;
}

/** Size of what stands at the beginning of a block for each name: inode, place of the name, type, one byte unused. */
export const direntBytes = 12;

/** What Linux takes for one component of a path (limits.h, NAME_MAX). */
const maxNameBytes = 255;

/** As directories tell the type of what they name (Linux, include/linux/fs_types.h, FT_*). */
const fileTypes = {
  file: 1,
  directory: 2,
  "character-device": 3,
  "block-device": 4,
  fifo: 5,
  socket: 6,
  "symbolic-link": 7,
} as const satisfies Record<Node["kind"], number>;

/**
 * The entries of `directory` in the order of the bytes of their names, in which the kernel searches.
 *
 * @throws {InvalidArgumentError} for a name that is no component of a path.
 */
export function sortedEntries(directory: Directory, parent: Directory): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [
    { name: ".", nameBytes: 1, node: directory },
    { name: "..", nameBytes: 2, node: parent },
  ];
  let isUtf16Order = true;
  for (const [name, node] of directory.entries) {
    const nameBytes = checkedNameBytes(name);
    isUtf16Order &&= nameBytes === name.length || !surrogate.test(name);
    entries.push({ name, nameBytes, node });
  }
  return entries.sort(isUtf16Order ? byUtf16 : byUtf8);
}

/** Where both orders differ: what is written with these comes before U+E000 in UTF-16, and behind U+FFFF in UTF-8. */
const surrogate = /[\ud800-\udfff]/;

function byUtf16(a: DirectoryEntry, b: DirectoryEntry): number {
  return a.name < b.name ? -1 : 1;
}

function byUtf8(a: DirectoryEntry, b: DirectoryEntry): number {
  return Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
}

const noComponent = /^\.{0,2}$|[/\0]/;

/** How many bytes the name takes. */
function checkedNameBytes(name: string): number {
  const bytes = Buffer.byteLength(name);
  if (bytes > maxNameBytes || noComponent.test(name)) {
    throw new InvalidArgumentError(
      `Cannot write file ${JSON.stringify(name.slice(0, 300))}: it is no name in a directory, want 1 to ${maxNameBytes} bytes without slash and NUL, not "." or ".."`,
    );
  }
  return bytes;
}

/** Cuts entries into the blocks that each has to itself. */
export function blocksOf(entries: readonly DirectoryEntry[]): DirectoryBlock[] {
  const blocks: DirectoryBlock[] = [];
  let from = 0;
  let usedBytes = 0;
  let to = 0;
  for (const { nameBytes } of entries) {
    const bytes = direntBytes + nameBytes;
    if (usedBytes + bytes > blockBytes) {
      blocks.push({ from, to, usedBytes });
      from = to;
      usedBytes = 0;
    }
    usedBytes += bytes;
    to += 1;
  }
  blocks.push({ from, to: entries.length, usedBytes });
  return blocks;
}

/** Writes a block at `offset` of `target`, which is all zeros there. */
export function writeDirectoryBlock(
  entries: readonly DirectoryEntry[],
  { from, to }: DirectoryBlock,
  inodeNumberOf: (node: Node) => number,
  target: Buffer,
  offset: number,
): void {
  let at = offset;
  let nameOffset = (to - from) * direntBytes;
  for (const { name, nameBytes, node } of entries.slice(from, to)) {
    const inode = inodeNumberOf(node);
    target.writeUInt32LE(inode % 2 ** 32, at);
    target.writeUInt32LE(Math.floor(inode / 2 ** 32), at + 4);
    target.writeUInt16LE(nameOffset, at + 8);
    target[at + 10] = fileTypes[node.kind];
    target.write(name, offset + nameOffset);
    at += direntBytes;
    nameOffset += nameBytes;
  }
}
