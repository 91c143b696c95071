import { blockBytes } from "@oci-worker/erofs/node";
import type { Chunk } from "@oci-worker/estargz/chunk";
import { chunkAt } from "@oci-worker/estargz/chunk-table";
import { nodeTypes } from "@oci-worker/estargz/node-table";
import type { LayerTree } from "@oci-worker/estargz/tree";

/** A chunk with its place on the data device of its layer. */
export interface PlacedChunk {
  /** First byte. */
  readonly start: number;
  readonly chunk: Chunk;
}

export interface Placement {
  /** First block of the content of each node that is a file with some. */
  readonly blocks: Float64Array;
  readonly dataBlocks: number;
  /** In the order of the device. */
  readonly chunks: readonly PlacedChunk[];
  /** 1 for each node that has a place in the tree: others have been replaced. */
  readonly isReached: Uint8Array;
}

const digestBytes = 32;

/**
 * Gives the content of each file of a layer a place of its own on a data device, in whole blocks. Files whose content is
 * equal, by the digests of their chunks, share one. The order is that of the blob, so that what is fetched together lies
 * together.
 */
export function placeContent(tree: LayerTree): Placement {
  const { nodes, chunks } = tree;
  const contents = new Contents(tree);
  const { files, isReached } = filesOf(tree);
  for (const file of files) {
    contents.add(file);
  }
  const blocks = new Float64Array(nodes.count);
  const placed: PlacedChunk[] = [];
  let dataBlocks = 0;
  for (const file of contents.inBlob()) {
    blocks[file] = dataBlocks;
    const first = nodes.firsts[file] ?? 0;
    for (let chunk = first; chunk < first + (nodes.counts[file] ?? 0); chunk += 1) {
      placed.push({
        start: dataBlocks * blockBytes + (chunks.fileOffsets[chunk] ?? 0),
        chunk: chunkAt(chunks, chunk),
      });
    }
    dataBlocks += Math.ceil((nodes.sizes[file] ?? 0) / blockBytes);
  }
  contents.share(blocks);
  return { blocks, dataBlocks, chunks: placed, isReached };
}

/** The files with content, each once, in the order of the tree; and what else is in it. */
function filesOf({ nodes, firstNames, names }: LayerTree) {
  const files: number[] = [];
  const isReached = new Uint8Array(nodes.count);
  const add = (directory: number) => {
    const end = firstNames[directory + 1] ?? 0;
    for (let name = firstNames[directory] ?? 0; name < end; name += 1) {
      const child = names.children[name] ?? 0;
      const type = nodes.types[child];
      if (type === nodeTypes.directory) {
        add(child);
      } else if (type === nodeTypes.file && isReached[child] === 0 && (nodes.sizes[child] ?? 0) > 0) {
        files.push(child);
      }
      isReached[child] = 1;
    }
  };
  isReached[0] = 1;
  // As deep as a path has components, some 2,000 at most.
  add(0);
  return { files, isReached };
}

/** What some files have, each all of it. */
class Contents {
  readonly #tree: LayerTree;
  /** The first files that have each, by a part of the digest of its first chunk. */
  readonly #byKey = new Map<number, number[]>();
  readonly #firsts: number[] = [];
  /** Of a file that has the content of another one, that one. */
  readonly #same = new Map<number, number>();
  readonly #digestWords: DataView;

  constructor(tree: LayerTree) {
    this.#tree = tree;
    const { digests } = tree.chunks;
    this.#digestWords = new DataView(digests.buffer, digests.byteOffset, digests.length);
  }

  add(file: number): void {
    const key = this.#keyOf(file);
    const others = this.#byKey.get(key);
    const same = others?.find((other) => this.#isSame(file, other));
    if (same !== undefined) {
      this.#same.set(file, same);
      return;
    }
    this.#firsts.push(file);
    if (others === undefined) {
      this.#byKey.set(key, [file]);
    } else {
      others.push(file);
    }
  }

  /** The first of the files that have each, in the order of the blob; what is nothing but zeros behind all that is fetched. */
  inBlob(): number[] {
    const { nodes, chunks } = this.#tree;
    const compare = (one: number, other: number): number => {
      const [isZeros, isOtherZeros] = [nodes.counts[one] === 0, nodes.counts[other] === 0];
      if (isZeros || isOtherZeros) {
        return Number(isZeros) - Number(isOtherZeros);
      }
      const [first, second] = [nodes.firsts[one] ?? 0, nodes.firsts[other] ?? 0];
      return (
        (chunks.offsets[first] ?? 0) - (chunks.offsets[second] ?? 0) ||
        (chunks.innerOffsets[first] ?? 0) - (chunks.innerOffsets[second] ?? 0)
      );
    };
    return this.#firsts.sort(compare);
  }

  /** Gives those that have the content of another file its place. */
  share(blocks: Float64Array): void {
    for (const [file, same] of this.#same) {
      blocks[file] = blocks[same] ?? 0;
    }
  }

  #keyOf(file: number): number {
    const { nodes } = this.#tree;
    return nodes.counts[file] === 0
      ? (nodes.sizes[file] ?? 0)
      : this.#digestWords.getUint32((nodes.firsts[file] ?? 0) * digestBytes);
  }

  /** By the digests of their chunks, not of the whole files, which nobody checks: files share what is proven to be equal. */
  #isSame(file: number, other: number): boolean {
    const { nodes, chunks } = this.#tree;
    const count = nodes.counts[file] ?? 0;
    if (nodes.sizes[file] !== nodes.sizes[other] || nodes.counts[other] !== count) {
      return false;
    }
    const [first, second] = [nodes.firsts[file] ?? 0, nodes.firsts[other] ?? 0];
    for (let chunk = 0; chunk < count; chunk += 1) {
      if (
        chunks.fileOffsets[first + chunk] !== chunks.fileOffsets[second + chunk] ||
        chunks.sizes[first + chunk] !== chunks.sizes[second + chunk]
      ) {
        return false;
      }
    }
    const digests = Buffer.from(chunks.digests.buffer, chunks.digests.byteOffset, chunks.digests.length);
    return (
      digests.compare(
        digests,
        second * digestBytes,
        (second + count) * digestBytes,
        first * digestBytes,
        (first + count) * digestBytes,
      ) === 0
    );
  }
}
