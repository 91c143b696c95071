/** Clients repeat short blocks: what is long, or one of very many, differs from call to call. */
const maxBlockBytes = 256;
const maxBlocks = 64;

interface Entry<T> {
  readonly block: Buffer;
  readonly value: T;
}

/**
 * What header blocks mean that have come before, byte for byte.
 *
 * A client that has put its usual fields into the table sends the same few bytes with every call. They mean the same until
 * the table changes.
 */
export class BlockCache<T> {
  readonly #entries = new Map<number, Entry<T>>();
  #version = 0;

  /** What the block that `bytes` has from `start` to `end` means with the table as it is in `version`. */
  find(bytes: Buffer, start: number, end: number, version: number): T | undefined {
    if (version !== this.#version || end - start > maxBlockBytes) {
      return undefined;
    }
    const entry = this.#entries.get(hashOf(bytes, start, end));
    return entry !== undefined && isSame(entry.block, bytes, start, end) ? entry.value : undefined;
  }

  /** Keeps the meaning of a block that has left the table as it was. */
  keep(bytes: Buffer, start: number, end: number, version: number, value: T): void {
    if (end - start > maxBlockBytes) {
      return;
    }
    if (version !== this.#version || this.#entries.size >= maxBlocks) {
      this.#entries.clear();
      this.#version = version;
    }
    const block = Buffer.from(bytes.subarray(start, end));
    this.#entries.set(hashOf(block, 0, block.length), { block, value });
  }
}

/** FNV-1a. Blocks that clash take turns in one place; nothing else depends on it. */
function hashOf(bytes: Buffer, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let offset = start; offset < end; offset += 1) {
    hash = Math.imul(hash ^ (bytes[offset] ?? 0), 0x01000193);
  }
  return hash;
}

function isSame(block: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (block.length !== end - start) {
    return false;
  }
  for (let offset = 0; offset < block.length; offset += 1) {
    if (block[offset] !== bytes[start + offset]) {
      return false;
    }
  }
  return true;
}
