import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type FileTable, typeBits, typeMask } from "./file-table.ts";
import { indexBytes, inodeBytes } from "./inode.ts";
import { Listings } from "./listing.ts";
import { blockBytes } from "./node.ts";
import { encodeXattrs } from "./xattrs.ts";

/** Inodes are numbered by their place, in units of so many bytes. */
export const inodeSlotBytes = 32;

/** What follows an inode in its own block has to leave room for the inode. */
const maxInlineBytes = blockBytes - inodeSlotBytes;

/** The longest target of a symbolic link that Linux follows (limits.h, PATH_MAX, without the NUL). */
const maxTargetBytes = 4095;

/** Where everything is. By the number of the file, where nothing else is said. */
export interface Layout {
  /** Numbers of the files in the order of their places; the root is the first. A file that has no name is not in it. */
  readonly order: Uint32Array;
  /** Of the inode, in units of {@link inodeSlotBytes} from the beginning of the image. */
  readonly slots: Uint32Array;
  readonly links: Uint32Array;
  /** Of the content that is in the image: that of directories and symbolic links. Of a regular file: its own. */
  readonly sizes: Float64Array;
  /** How many bytes of the content follow the inode in the same block; the rest is in blocks of its own. */
  readonly inlineBytes: Uint16Array;
  readonly blocks: Uint32Array;
  /** First of those. */
  readonly firstBlocks: Uint32Array;
  readonly xattrs: ReadonlyMap<number, Buffer>;
  readonly listings: Listings;
  /** Of a directory, where its names begin and end in the listings. */
  readonly listingStarts: Uint32Array;
  readonly listingEnds: Uint32Array;
  /** Of a directory, the one that it is in. */
  readonly parents: Uint32Array;
  /** Size of the image. */
  readonly totalBlocks: number;
}

/**
 * Finds a place for each file of a tree, the entries of a directory next to each other.
 *
 * @param start first byte that is free for inodes.
 * @throws {InvalidArgumentError} for what cannot be written, such as a directory with two names.
 */
export function layOut(files: FileTable, start: number): Layout {
  const collected = collect(files);
  const { order, count, sizes } = collected;
  const total = sizes.length;
  const xattrs = new Map<number, Buffer>();
  const inlineBytes = new Uint16Array(total);
  const blocks = new Uint32Array(total);
  const firstBlocks = new Uint32Array(total);
  const slots = new Uint32Array(total);
  let position = start;
  for (let at = 0; at < count; at += 1) {
    const file = order[at] ?? 0;
    const type = (files.modes[file] ?? 0) & typeMask;
    const isInImage = type === typeBits.directory || type === typeBits["symbolic-link"];
    const contentBytes = isInImage ? (sizes[file] ?? 0) : 0;
    const rest = contentBytes % blockBytes;
    const inline = rest <= maxInlineBytes ? rest : 0;
    inlineBytes[file] = inline;
    blocks[file] = Math.ceil((contentBytes - inline) / blockBytes);
    const attributes = files.xattrs.get(file);
    let headBytes = inodeBytes;
    if (attributes !== undefined) {
      const encoded = encodeXattrs(attributes);
      xattrs.set(file, encoded);
      headBytes += encoded.length;
    }
    if (type === typeBits.file) {
      headBytes += indexBytes(headBytes - inodeBytes, sizes[file] ?? 0);
    }
    position = placeFor(headBytes, inline, position);
    slots[file] = position / inodeSlotBytes;
    position += headBytes + inline;
  }
  let block = Math.ceil(position / blockBytes);
  for (let at = 0; at < count; at += 1) {
    const file = order[at] ?? 0;
    firstBlocks[file] = block;
    block += blocks[file] ?? 0;
  }
  return {
    ...collected,
    order: order.subarray(0, count),
    slots,
    inlineBytes,
    blocks,
    firstBlocks,
    xattrs,
    totalBlocks: block,
  };
}

/** Inline content must not cross a border of blocks; the inode and its attributes may. */
function placeFor(headBytes: number, inlineBytes: number, from: number): number {
  const position = alignUp(from, inodeSlotBytes);
  const content = position + headBytes;
  if (inlineBytes > 0 && (content % blockBytes) + inlineBytes > blockBytes) {
    return alignUp(alignUp(content, blockBytes) - headBytes, inodeSlotBytes);
  }
  return position;
}

function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Every file of the tree once, directory by directory from the top, with how many names it has. */
function collect(files: FileTable) {
  const { modes, nameFiles } = files;
  const total = modes.length;
  const order = new Uint32Array(total);
  const links = new Uint32Array(total);
  const sizes = new Float64Array(total);
  const listingStarts = new Uint32Array(total);
  const listingEnds = new Uint32Array(total);
  const parents = new Uint32Array(total);
  const directories = new Uint32Array(total);
  const listings = new Listings(files, total);
  let [count, directoryCount] = [0, 0];

  const add = (file: number, parent: number): void => {
    order[count] = file;
    count += 1;
    const type = (modes[file] ?? 0) & typeMask;
    if (type === typeBits.directory) {
      directories[directoryCount] = file;
      directoryCount += 1;
      parents[file] = parent;
      const from = listings.add(file);
      listingStarts[file] = from;
      listingEnds[file] = listings.end;
      sizes[file] = listings.measure(from, listings.end);
    } else {
      sizes[file] = checkedSize(files, file, type);
    }
  };

  add(0, 0);
  links[0] = 2;
  // Grows while it is gone through.
  for (let next = 0; next < directoryCount; next += 1) {
    const directory = directories[next] ?? 0;
    const end = listingEnds[directory] ?? 0;
    for (let at = listingStarts[directory] ?? 0; at < end; at += 1) {
      const name = listings.names[at] ?? 0;
      if (name < 0) {
        continue;
      }
      const file = nameFiles[name] ?? 0;
      const isDirectory = ((modes[file] ?? 0) & typeMask) === typeBits.directory;
      const isKnown = links[file] !== 0;
      if (isKnown && isDirectory) {
        throw twoPlaces(files, name);
      }
      if (!isKnown) {
        add(file, directory);
      }
      links[file] = (links[file] ?? 0) + (isDirectory ? 2 : 1);
      if (isDirectory) {
        links[directory] = (links[directory] ?? 0) + 1;
      }
    }
  }
  return { order, count, links, sizes, listings, listingStarts, listingEnds, parents };
}

function twoPlaces({ texts, nameStarts, nameLengths }: FileTable, name: number): InvalidArgumentError {
  const start = nameStarts[name] ?? 0;
  const text = texts.toString("utf8", start, start + (nameLengths[name] ?? 0));
  return new InvalidArgumentError(
    `Cannot write directory ${JSON.stringify(text)}: it has two places in the tree, want one`,
  );
}

/** Of what is not a directory. */
function checkedSize({ sizes, starts, texts }: FileTable, file: number, type: number): number {
  const size = sizes[file] ?? 0;
  if (type === typeBits.file) {
    if (!Number.isSafeInteger(size) || size < 0) {
      throw new InvalidArgumentError(`Cannot write file of ${size} bytes: want a size of 0 to 2^53 - 1`);
    }
    return size;
  }
  if (type !== typeBits["symbolic-link"]) {
    return 0;
  }
  const start = starts[file] ?? 0;
  const nul = texts.indexOf(0, start);
  if (size === 0 || size > maxTargetBytes || (nul !== -1 && nul < start + size)) {
    const target = texts.toString("utf8", start, start + size).slice(0, 300);
    throw new InvalidArgumentError(
      `Cannot write symbolic link to ${JSON.stringify(target)}: want a target of 1 to ${maxTargetBytes} bytes without NUL`,
    );
  }
  return size;
}
