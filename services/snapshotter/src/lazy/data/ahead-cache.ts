/** What all layers together keep in memory. */
const maxCacheBytes = 8 * 1024 * 1024;

/**
 * Members of blobs, compressed, that have come along with others and that nobody has wanted yet. They are neither
 * decompressed nor checked before somebody does. What has been here longest goes first.
 */
export class AheadCache {
  readonly #maxBytes: number;
  readonly #members = new Map<string, Buffer>();
  #bytes = 0;

  constructor(maxBytes = maxCacheBytes) {
    this.#maxBytes = maxBytes;
  }

  has(layer: number, member: number): boolean {
    return this.#members.has(keyOf(layer, member));
  }

  put(layer: number, member: number, compressed: Buffer): void {
    this.take(layer, member);
    this.#members.set(keyOf(layer, member), compressed);
    this.#bytes += compressed.length;
    for (const [key, { length }] of this.#members) {
      if (this.#bytes <= this.#maxBytes) {
        return;
      }
      this.#members.delete(key);
      this.#bytes -= length;
    }
  }

  /** Gives the member away: it is not here any more. */
  take(layer: number, member: number): Buffer | undefined {
    const key = keyOf(layer, member);
    const compressed = this.#members.get(key);
    if (compressed !== undefined) {
      this.#members.delete(key);
      this.#bytes -= compressed.length;
    }
    return compressed;
  }
}

function keyOf(layer: number, member: number): string {
  return `${layer}/${member}`;
}
