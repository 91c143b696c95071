import { direntBytes } from "./listing.ts";

/** A name in a block of a directory. */
export interface BlockName {
  readonly inode: number;
  /** As directories tell it: see `fileTypes` in `directory.ts`. */
  readonly fileType: number;
  readonly name: Buffer;
}

/** How many names there are in `block`. */
export function namesIn(block: Buffer): number {
  return block.length < direntBytes ? 0 : Math.floor(block.readUInt16LE(8) / direntBytes);
}

/** Name number `index` of `block`. */
export function nameAt(block: Buffer, index: number): BlockName {
  const at = index * direntBytes;
  const [from, to] = placeOf(block, index);
  return {
    inode: block.readUInt32LE(at) + block.readUInt32LE(at + 4) * 2 ** 32,
    fileType: block[at + 10] ?? 0,
    name: block.subarray(from, to),
  };
}

/** How name number `index` of `block` stands to the bytes `from` to `to` of `name`: below 0 if it comes before. */
export function compareName(block: Buffer, index: number, name: Buffer, from: number, to: number): number {
  const [start, end] = placeOf(block, index);
  return block.compare(name, from, to, start, end);
}

/** The last name ends with the block, or with the zeros that fill it. */
function placeOf(block: Buffer, index: number): readonly [number, number] {
  const at = index * direntBytes;
  const from = block.readUInt16LE(at + 8);
  if (index + 1 < namesIn(block)) {
    return [from, block.readUInt16LE(at + direntBytes + 8)];
  }
  const zero = block.indexOf(0, from);
  return [from, zero === -1 ? block.length : zero];
}
