import { blockBytes } from "@oci-worker/erofs/node";
import type { Chunk } from "@oci-worker/estargz/chunk";
import type { FileNode } from "@oci-worker/estargz/node";
import { type LayerTree, walk } from "@oci-worker/estargz/tree";

/** A chunk with its place on the data device of its layer. */
export interface PlacedChunk {
  /** First byte. */
  readonly start: number;
  readonly chunk: Chunk;
}

export interface Placement {
  /** First block of the content of a file that has some. */
  readonly blockOf: (file: FileNode) => number;
  readonly dataBlocks: number;
  /** In the order of the device. */
  readonly chunks: readonly PlacedChunk[];
}

/**
 * Gives the content of each file of a layer a place of its own on a data device, in whole blocks. Files whose content is
 * equal, by the digests of their chunks, share one. The order is that of the blob, so that what is fetched together lies
 * together.
 */
export function placeContent(tree: LayerTree): Placement {
  const contents = new Map<string, FileNode>();
  const keys = new Map<FileNode, string>();
  for (const { node } of walk(tree)) {
    if (node.type === "file" && node.sizeBytes > 0 && !keys.has(node)) {
      const key = contentKey(node);
      keys.set(node, key);
      if (!contents.has(key)) {
        contents.set(key, node);
      }
    }
  }
  const blocks = new Map<string, number>();
  const chunks: PlacedChunk[] = [];
  let dataBlocks = 0;
  for (const [key, file] of [...contents].sort(([, one], [, other]) => compare(one, other))) {
    blocks.set(key, dataBlocks);
    for (const chunk of file.chunks) {
      chunks.push({ start: dataBlocks * blockBytes + chunk.fileOffset, chunk });
    }
    dataBlocks += Math.ceil(file.sizeBytes / blockBytes);
  }
  const blockOf = (file: FileNode): number => {
    const block = blocks.get(keys.get(file) ?? "");
    if (block === undefined) {
      throw new Error("every file with content has a place");
    }
    return block;
  };
  return { blockOf, dataBlocks, chunks };
}

/** Not the digest of the whole file, which nobody checks: files share what is proven to be equal. */
function contentKey({ sizeBytes, chunks }: FileNode): string {
  return [
    sizeBytes,
    ...chunks.map((chunk) => `${chunk.fileOffset} ${chunk.sizeBytes} ${chunk.digest}`),
  ].join();
}

function compare(one: FileNode, other: FileNode): number {
  const [first, second] = [one.chunks[0], other.chunks[0]];
  if (first === undefined || second === undefined) {
    // Nothing but zeros: behind all that is fetched.
    return first === second ? 0 : first === undefined ? 1 : -1;
  }
  return first.offset - second.offset || first.innerOffset - second.innerOffset;
}
