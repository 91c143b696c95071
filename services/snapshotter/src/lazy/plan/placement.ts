import { blockBytes } from "@oci-worker/erofs/node";
import type { Chunk } from "@oci-worker/estargz/chunk";
import type { FileNode, Node } from "@oci-worker/estargz/node";
import type { LayerTree } from "@oci-worker/estargz/tree";

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
  const contents = new Map<string, Content>();
  const contentOf = new Map<FileNode, Content>();
  const add = (node: Node) => {
    if (node.type === "directory") {
      for (const child of node.children.values()) {
        add(child);
      }
    } else if (node.type === "file" && node.sizeBytes > 0 && !contentOf.has(node)) {
      const key = contentKey(node);
      let content = contents.get(key);
      if (content === undefined) {
        content = { file: node, block: 0 };
        contents.set(key, content);
      }
      contentOf.set(node, content);
    }
  };
  // As deep as a path has components, some 2,000 at most.
  add(tree.root);
  const chunks: PlacedChunk[] = [];
  let dataBlocks = 0;
  for (const content of [...contents.values()].sort(compare)) {
    content.block = dataBlocks;
    for (const chunk of content.file.chunks) {
      chunks.push({ start: dataBlocks * blockBytes + chunk.fileOffset, chunk });
    }
    dataBlocks += Math.ceil(content.file.sizeBytes / blockBytes);
  }
  const blockOf = (file: FileNode): number => {
    const content = contentOf.get(file);
    if (content === undefined) {
      throw new Error("every file with content has a place");
    }
    return content.block;
  };
  return { blockOf, dataBlocks, chunks };
}

/** What some files have, each all of it. */
interface Content {
  /** The first of them. */
  readonly file: FileNode;
  /** First block on the device. */
  block: number;
}

/** Not the digest of the whole file, which nobody checks: files share what is proven to be equal. */
function contentKey({ sizeBytes, chunks }: FileNode): string {
  const [first] = chunks;
  if (first !== undefined && first.sizeBytes === sizeBytes) {
    // Most are in one piece: nothing to put together.
    return first.digest;
  }
  let key = String(sizeBytes);
  for (const { fileOffset, sizeBytes: chunkBytes, digest } of chunks) {
    key += ` ${fileOffset} ${chunkBytes} ${digest}`;
  }
  return key;
}

function compare(one: Content, other: Content): number {
  const first = one.file.chunks[0];
  const second = other.file.chunks[0];
  if (first === undefined || second === undefined) {
    // Nothing but zeros: behind all that is fetched.
    return first === second ? 0 : first === undefined ? 1 : -1;
  }
  return first.offset - second.offset || first.innerOffset - second.innerOffset;
}
