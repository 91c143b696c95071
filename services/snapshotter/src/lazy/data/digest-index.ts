/** Where a chunk is: in which layer, and its number there. */
export interface ChunkPlace {
  readonly layer: number;
  readonly chunk: number;
}

/** Chunks of a layer are fewer (estargz, `maxEntries`). */
const maxChunks = 2 ** 20;

/**
 * Finds a chunk by its digest among those that some layer has. A finding is a hint: by a part of the digest, which keeps it
 * small, and of one of several.
 */
export class DigestIndex {
  readonly #places = new Map<number, number>();

  add(digest: string, { layer, chunk }: ChunkPlace): void {
    this.#places.set(keyOf(digest), layer * maxChunks + chunk);
  }

  find(digest: string): ChunkPlace | undefined {
    const place = this.#places.get(keyOf(digest));
    return place === undefined
      ? undefined
      : { layer: Math.floor(place / maxChunks), chunk: place % maxChunks };
  }

  /** Forgets that the chunk is there. */
  remove(digest: string, { layer, chunk }: ChunkPlace): void {
    const key = keyOf(digest);
    if (this.#places.get(key) === layer * maxChunks + chunk) {
      this.#places.delete(key);
    }
  }
}

/** 48 bits of it. */
function keyOf(digest: string): number {
  return Number.parseInt(digest.slice(-12), 16);
}
