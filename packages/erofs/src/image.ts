import { InvalidArgumentError } from "@oci-worker/errdefs";
import { writeDirectoryBlock } from "./directory.ts";
import { type FileTable, typeBits, typeMask } from "./file-table.ts";
import { InodeWriter } from "./inode.ts";
import { inodeSlotBytes, type Layout, layOut } from "./layout.ts";
import { blockBytes } from "./node.ts";
import { superblockEnd, writeSuperblock } from "./superblock.ts";

export { encodeDevice, type FileTable, tableOf, typeBits } from "./file-table.ts";
export { storableXattrs } from "./xattrs.ts";

export interface ImageOptions {
  /** Size of the data device in blocks of 4 KiB; 0 if no file has content. */
  readonly dataBlocks: number;
  /** Identity of the file system, 16 bytes: what tells images apart where the content does not. */
  readonly uuid: Uint8Array;
}

/** Blocks are numbered with 32 bits, those of the image and of the device together. */
const maxBlocks = 2 ** 32 - 2;

/**
 * Makes an EROFS image that has the names and attributes of a tree. The content of its regular files is on a data device,
 * which mount(2) is told of with `device=PATH`: byte for byte at the blocks that the files name, the last block of each
 * filled up with zeros.
 *
 * Equal trees become equal images.
 *
 * Linux mounts it from 5.16 on as a block device, and from 6.12 on as a plain file. Nothing that is here needs more than
 * 2^53 bytes for one file.
 *
 * @throws {InvalidArgumentError} naming what EROFS or Linux cannot represent.
 */
export function imageOf(files: FileTable, { dataBlocks, uuid }: ImageOptions): Buffer {
  const layout = layOut(files, superblockEnd);
  const { order, totalBlocks } = layout;
  if (totalBlocks + dataBlocks > maxBlocks) {
    throw new InvalidArgumentError(
      `Cannot write image: it has ${totalBlocks + dataBlocks} blocks, want at most ${maxBlocks}`,
    );
  }
  checkData(files, layout, dataBlocks);
  const image = Buffer.alloc(totalBlocks * blockBytes);
  const rootInode = superblockEnd / inodeSlotBytes;
  writeSuperblock({ rootInode, inodes: order.length, totalBlocks, dataBlocks, uuid }, image, 0);
  const inodes = new InodeWriter(files, layout, image);
  for (let at = 0; at < order.length; at += 1) {
    const file = order[at] ?? 0;
    const end = inodes.write(file, at + 1, (layout.slots[file] ?? 0) * inodeSlotBytes);
    writeContent(files, layout, file, image, end);
  }
  return image;
}

function checkData({ modes, starts }: FileTable, { order, sizes }: Layout, dataBlocks: number): void {
  for (const file of order) {
    const size = sizes[file] ?? 0;
    if (size > 0 && ((modes[file] ?? 0) & typeMask) === typeBits.file) {
      const start = starts[file] ?? 0;
      const end = start + Math.ceil(size / blockBytes);
      if (!Number.isSafeInteger(start) || start < 0 || end > dataBlocks) {
        throw new InvalidArgumentError(
          `Cannot write file of ${size} bytes at block ${start}: the data device has ${dataBlocks} blocks`,
        );
      }
    }
  }
}

/** Writes what a directory lists, or where a symbolic link leads: whole blocks, and at `inlineAt` what fills none. */
function writeContent(files: FileTable, layout: Layout, file: number, image: Buffer, inlineAt: number): void {
  const { blocks, firstBlocks, inlineBytes, listings, listingStarts, listingEnds } = layout;
  const type = (files.modes[file] ?? 0) & typeMask;
  if (type === typeBits["symbolic-link"]) {
    const { starts, sizes, texts } = files;
    const start = starts[file] ?? 0;
    const target = inlineBytes[file] === 0 ? (firstBlocks[file] ?? 0) * blockBytes : inlineAt;
    texts.copy(image, target, start, start + (sizes[file] ?? 0));
  } else if (type === typeBits.directory) {
    const to = listingEnds[file] ?? 0;
    let from = listingStarts[file] ?? 0;
    for (let block = 0; from < to; block += 1) {
      const end = listings.blockEnd(from, to);
      const isInline = block === blocks[file];
      const offset = isInline ? inlineAt : ((firstBlocks[file] ?? 0) + block) * blockBytes;
      writeDirectoryBlock(files, layout, { directory: file, from, to: end }, image, offset);
      from = end;
    }
  }
}
