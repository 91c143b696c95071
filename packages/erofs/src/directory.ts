import { InvalidArgumentError } from "@oci-worker/errdefs";
import { blockBytes, type Directory, type Node } from "./node.ts";

/** A name in a directory, `.` and `..` among them. */
export interface DirectoryEntry {
  readonly name: Buffer;
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
    { name: Buffer.from("."), node: directory },
    { name: Buffer.from(".."), node: parent },
  ];
  for (const [text, node] of directory.entries) {
    entries.push({ name: checkedName(text), node });
  }
  return entries.sort((a, b) => Buffer.compare(a.name, b.name));
}

function checkedName(text: string): Buffer {
  const name = Buffer.from(text);
  const isComponent = text !== "" && text !== "." && text !== ".." && !/[/\0]/.test(text);
  if (!isComponent || name.length > maxNameBytes) {
    throw new InvalidArgumentError(
      `Cannot write file ${JSON.stringify(text.slice(0, 300))}: it is no name in a directory, want 1 to ${maxNameBytes} bytes without slash and NUL, not "." or ".."`,
    );
  }
  return name;
}

/** Cuts entries into the blocks that each has to itself. */
export function blocksOf(entries: readonly DirectoryEntry[]): DirectoryBlock[] {
  const blocks: DirectoryBlock[] = [];
  let from = 0;
  let usedBytes = 0;
  for (const [index, { name }] of entries.entries()) {
    const bytes = direntBytes + name.length;
    if (usedBytes + bytes > blockBytes) {
      blocks.push({ from, to: index, usedBytes });
      from = index;
      usedBytes = 0;
    }
    usedBytes += bytes;
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
  for (const { name, node } of entries.slice(from, to)) {
    const inode = inodeNumberOf(node);
    target.writeUInt32LE(inode % 2 ** 32, at);
    target.writeUInt32LE(Math.floor(inode / 2 ** 32), at + 4);
    target.writeUInt16LE(nameOffset, at + 8);
    target[at + 10] = fileTypes[node.kind];
    target.set(name, offset + nameOffset);
    at += direntBytes;
    nameOffset += name.length;
  }
}
