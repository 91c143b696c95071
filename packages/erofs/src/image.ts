import { InvalidArgumentError } from "@oci-worker/errdefs";
import { writeDirectoryBlock } from "./directory.ts";
import { writeInode } from "./inode.ts";
import { headBytes, inodeSlotBytes, type Layout, layOut, type Placed } from "./layout.ts";
import { blockBytes, type Directory, type Node } from "./node.ts";
import { OutputWindow } from "./output-window.ts";
import { superblockEnd, writeSuperblock } from "./superblock.ts";

export { storableXattrs } from "./xattrs.ts";

export interface ImageOptions {
  /** Size of the data device in blocks of 4 KiB; 0 if no file has content. */
  readonly dataBlocks: number;
  /** Identity of the file system, 16 bytes: what tells images apart where the content does not. */
  readonly uuid: Uint8Array;
}

export interface ImageSummary {
  readonly sizeBytes: number;
  /** Files of all kinds, each counted once. */
  readonly inodes: number;
}

/** Blocks are numbered with 32 bits, those of the image and of the device together. */
const maxBlocks = 2 ** 32 - 2;

/**
 * Writes an EROFS image that has the names and attributes of a tree. The content of its regular files is on a data
 * device, which mount(2) is told of with `device=PATH`: byte for byte at the blocks that the files name, the last block of
 * each filled up with zeros.
 *
 * Equal trees become equal images. The image is given to `write` piece by piece from its beginning; a piece is good only
 * during the call.
 *
 * Linux mounts it from 5.16 on as a block device, and from 6.12 on as a plain file. Nothing that is here needs more than
 * 2^53 bytes for one file.
 *
 * @throws {InvalidArgumentError} naming what EROFS or Linux cannot represent; `write` has not been called then.
 */
export function writeImage(
  root: Directory,
  { dataBlocks, uuid }: ImageOptions,
  write: (piece: Uint8Array) => void,
): ImageSummary {
  const layout = layOut(root, superblockEnd);
  const { inodes, totalBlocks } = layout;
  if (totalBlocks + dataBlocks > maxBlocks) {
    throw new InvalidArgumentError(
      `Cannot write image: it has ${totalBlocks + dataBlocks} blocks, want at most ${maxBlocks}`,
    );
  }
  checkData(inodes, dataBlocks);
  const output = new OutputWindow(write);
  const first = output.room(0, superblockEnd);
  writeSuperblock(
    { rootInode: superblockEnd / inodeSlotBytes, inodes: inodes.length, totalBlocks, dataBlocks, uuid },
    first.buffer,
    first.offset,
  );
  writeInodes(layout, output);
  writeDirectories(layout, output);
  output.end(totalBlocks * blockBytes);
  return { sizeBytes: totalBlocks * blockBytes, inodes: inodes.length };
}

function checkData(inodes: readonly Placed[], dataBlocks: number): void {
  for (const { node } of inodes) {
    if (node.kind === "file" && node.sizeBytes > 0) {
      const end = node.dataBlock + Math.ceil(node.sizeBytes / blockBytes);
      if (!Number.isSafeInteger(node.dataBlock) || node.dataBlock < 0 || end > dataBlocks) {
        throw new InvalidArgumentError(
          `Cannot write file of ${node.sizeBytes} bytes at block ${node.dataBlock}: the data device has ${dataBlocks} blocks`,
        );
      }
    }
  }
}

function writeInodes({ inodes, of }: Layout, output: OutputWindow): void {
  const numberOf = (node: Node) => of(node).position / inodeSlotBytes;
  for (const inode of inodes) {
    const before = headBytes(inode);
    const { buffer, offset } = output.room(inode.position, before + inode.inlineBytes);
    writeInode(inode, buffer, offset);
    if (inode.inlineBytes === 0) {
      continue;
    }
    const { listing, target } = inode;
    const lastBlock = listing?.blocks.at(-1);
    if (listing !== undefined && lastBlock !== undefined) {
      writeDirectoryBlock(listing.entries, lastBlock, numberOf, buffer, offset + before);
    } else if (target !== undefined) {
      buffer.set(target, offset + before);
    }
  }
}

/** What did not go behind the inodes: whole blocks of directories, and targets that fill nearly a block. */
function writeDirectories({ inodes, of }: Layout, output: OutputWindow): void {
  const numberOf = (node: Node) => of(node).position / inodeSlotBytes;
  for (const { blocks, firstBlock, listing, target } of inodes) {
    for (let index = 0; index < blocks; index += 1) {
      const { buffer, offset } = output.room((firstBlock + index) * blockBytes, blockBytes);
      const block = listing?.blocks[index];
      if (listing !== undefined && block !== undefined) {
        writeDirectoryBlock(listing.entries, block, numberOf, buffer, offset);
      } else if (target !== undefined) {
        buffer.set(target, offset);
      }
    }
  }
}
