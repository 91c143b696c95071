import { InvalidArgumentError } from "@oci-worker/errdefs";
import { blocksOf, type DirectoryBlock, type DirectoryEntry, sortedEntries } from "./directory.ts";
import { indexBytes, inodeBytes } from "./inode.ts";
import { blockBytes, type Directory, type Node } from "./node.ts";
import { encodeXattrs } from "./xattrs.ts";

/** Inodes are numbered by their place, in units of so many bytes. */
export const inodeSlotBytes = 32;

/** What follows an inode in its own block has to leave room for the inode. */
const maxInlineBytes = blockBytes - inodeSlotBytes;

/** The longest target of a symbolic link that Linux follows (limits.h, PATH_MAX, without the NUL). */
const maxTargetBytes = 4095;

/** One inode with its place in the image. */
export interface Placed {
  readonly node: Node;
  /** One more than how many came before it: the number that 32-bit programs see. */
  readonly ordinal: number;
  readonly xattrs: Buffer;
  readonly sizeBytes: number;
  /** How many bytes of its content follow the inode in the same block; the rest is in blocks of its own. */
  readonly inlineBytes: number;
  /** How many blocks of its content are in the image. */
  readonly blocks: number;
  links: number;
  /** Of the inode, from the beginning of the image. */
  position: number;
  /** First of its blocks; meaningless without any. */
  firstBlock: number;
  /** Of a directory. */
  readonly listing:
    | { readonly entries: readonly DirectoryEntry[]; readonly blocks: readonly DirectoryBlock[] }
    | undefined;
  /** Of a symbolic link. */
  readonly target: Buffer | undefined;
}

/** Where everything is. */
export interface Layout {
  /** In the order of their places; the root is the first. */
  readonly inodes: readonly Placed[];
  readonly of: (node: Node) => Placed;
  /** Size of the image. */
  readonly totalBlocks: number;
}

/**
 * Finds a place for each file of a tree, the entries of a directory next to each other.
 *
 * @param start first byte that is free for inodes.
 * @throws {InvalidArgumentError} for what cannot be written, such as a directory with two names.
 */
export function layOut(root: Directory, start: number): Layout {
  const placed = collect(root);
  const inodes = [...placed.values()];
  let position = start;
  for (const inode of inodes) {
    inode.position = placeFor(inode, position);
    position = inode.position + headBytes(inode) + inode.inlineBytes;
  }
  let block = Math.ceil(position / blockBytes);
  for (const inode of inodes) {
    inode.firstBlock = block;
    block += inode.blocks;
  }
  const of = (node: Node): Placed => {
    const found = placed.get(node);
    if (found === undefined) {
      throw new Error("every node of the tree was placed");
    }
    return found;
  };
  return { inodes, of, totalBlocks: block };
}

/** An inode, its attributes, and of a file where its content is. */
export function headBytes({ node, xattrs, sizeBytes }: Placed): number {
  const index = node.kind === "file" ? indexBytes(xattrs.length, sizeBytes) : 0;
  return inodeBytes + xattrs.length + index;
}

/** Inline content must not cross a border of blocks; the inode and its attributes may. */
function placeFor({ xattrs, inlineBytes }: Placed, from: number): number {
  const before = inodeBytes + xattrs.length;
  let position = alignUp(from, inodeSlotBytes);
  const content = position + before;
  if (inlineBytes > 0 && (content % blockBytes) + inlineBytes > blockBytes) {
    position = alignUp(alignUp(content, blockBytes) - before, inodeSlotBytes);
  }
  return position;
}

function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Every file of the tree once, directory by directory from the top, with how many names it has. */
function collect(root: Directory): Map<Node, Placed> {
  const placed = new Map<Node, Placed>();
  const queue: { readonly directory: Directory; readonly listing: DirectoryEntry[] }[] = [];

  const add = (node: Node, parent: Directory): Placed => {
    const ordinal = placed.size + 1;
    if (node.kind !== "directory") {
      const inode = place(node, ordinal);
      placed.set(node, inode);
      return inode;
    }
    const listing = sortedEntries(node, parent);
    queue.push({ directory: node, listing });
    const inode = placeDirectory(node, listing, ordinal);
    placed.set(node, inode);
    return inode;
  };

  add(root, root).links = 2;
  for (let next = 0; next < queue.length; next += 1) {
    const item = queue[next];
    if (item === undefined) {
      break;
    }
    for (const { node, name } of item.listing) {
      if (node === item.directory || isDots(name)) {
        continue;
      }
      const known = placed.get(node);
      if (known !== undefined && node.kind === "directory") {
        throw new InvalidArgumentError(
          `Cannot write directory ${JSON.stringify(name)}: it has two places in the tree, want one`,
        );
      }
      const inode = known ?? add(node, item.directory);
      inode.links += 1;
      if (node.kind === "directory") {
        inode.links += 1;
        const above = placed.get(item.directory);
        if (above !== undefined) {
          above.links += 1;
        }
      }
    }
  }
  return placed;
}

function isDots(name: string): boolean {
  return name === "." || name === "..";
}

function placeDirectory(node: Directory, entries: readonly DirectoryEntry[], ordinal: number): Placed {
  const blocks = blocksOf(entries);
  const last = blocks.at(-1)?.usedBytes ?? 0;
  const sizeBytes = (blocks.length - 1) * blockBytes + last;
  return placed(node, ordinal, sizeBytes, { entries, blocks });
}

function place(node: Exclude<Node, Directory>, ordinal: number): Placed {
  switch (node.kind) {
    case "file":
      checkSize(node.sizeBytes);
      return placed(node, ordinal, node.sizeBytes);
    case "symbolic-link": {
      const target = checkedTarget(node.target);
      return placed(node, ordinal, target.length, undefined, target);
    }
    default:
      return placed(node, ordinal, 0);
  }
}

/** The content of what is neither a directory nor a link is not in the image. */
function placed(
  node: Node,
  ordinal: number,
  sizeBytes: number,
  listing?: Placed["listing"],
  target?: Buffer,
): Placed {
  const contentBytes = listing === undefined && target === undefined ? 0 : sizeBytes;
  const rest = contentBytes % blockBytes;
  const inlineBytes = rest <= maxInlineBytes ? rest : 0;
  return {
    node,
    ordinal,
    xattrs: encodeXattrs(node.xattrs),
    sizeBytes,
    inlineBytes,
    blocks: Math.ceil((contentBytes - inlineBytes) / blockBytes),
    links: 0,
    position: 0,
    firstBlock: 0,
    listing,
    target,
  };
}

function checkSize(sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw new InvalidArgumentError(`Cannot write file of ${sizeBytes} bytes: want a size of 0 to 2^53 - 1`);
  }
}

function checkedTarget(text: string): Buffer {
  const target = Buffer.from(text);
  if (target.length === 0 || target.length > maxTargetBytes || target.includes(0)) {
    throw new InvalidArgumentError(
      `Cannot write symbolic link to ${JSON.stringify(text.slice(0, 300))}: want a target of 1 to ${maxTargetBytes} bytes without NUL`,
    );
  }
  return target;
}
