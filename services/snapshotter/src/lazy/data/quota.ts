import type { LayerFile } from "./layer-file.ts";

/** A layer that takes part in the quota. */
export interface QuotaLayer {
  readonly file: LayerFile;
  /** Its file is mounted as it is, so nothing of it may go. */
  readonly isDevice: boolean;
}

/** When room must be made, so much more of the quota is freed: looking for what was not used long is the costly part. */
const spareShare = 1 / 64;

/**
 * Keeps what all layers have on disk below a limit, by giving up what was not read for longest; what was fetched ahead and
 * never read goes first. What it cannot keep to is the limit itself where mounted files alone are larger.
 */
export class Quota {
  readonly #maxBytes: number;
  readonly #layers: () => Iterable<QuotaLayer>;
  readonly #waiting = new Set<() => void>();
  #frees = 0;
  readonly #onEvicted: (file: LayerFile, chunk: number) => void;

  /** @param maxBytes undefined for no limit. */
  constructor(
    maxBytes: number | undefined,
    layers: () => Iterable<QuotaLayer>,
    onEvicted: (file: LayerFile, chunk: number) => void,
  ) {
    this.#maxBytes = maxBytes ?? Number.POSITIVE_INFINITY;
    this.#layers = layers;
    this.#onEvicted = onEvicted;
  }

  /** How often room has been given back. */
  get frees(): number {
    return this.#frees;
  }

  /**
   * Resolves when room is given back that nobody has asked for, or the signal aborts.
   *
   * @param since what {@link frees} was before it was found that there is none: it may have changed meanwhile.
   */
  async untilFreed(since: number, signal: AbortSignal): Promise<void> {
    if (this.#frees !== since) {
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
    await (signal.aborted ? undefined : promise);
    this.#waiting.delete(resolve);
  }

  /** Tells that a layer is gone. */
  freed(): void {
    this.#frees += 1;
    for (const resolve of this.#waiting) {
      resolve();
    }
  }

  /** Whether so many bytes more fit without anything having to go. */
  hasRoom(bytes: number): boolean {
    return this.usedBytes + bytes <= this.#maxBytes;
  }

  /** Whether `file` may be kept for good: what is promised leaves half of the quota to what changes. */
  canPromise(file: LayerFile): boolean {
    let promised = file.presentBytes;
    for (const { file: other, isDevice } of this.#layers()) {
      promised += isDevice ? other.presentBytes : 0;
    }
    return promised <= this.#maxBytes / 2;
  }

  get usedBytes(): number {
    let sum = 0;
    for (const { file } of this.#layers()) {
      sum += file.presentBytes;
    }
    return sum;
  }

  /** Makes room for so many bytes more. */
  makeRoom(bytes: number): void {
    if (this.hasRoom(bytes)) {
      return;
    }
    let excess = this.usedBytes + bytes - this.#maxBytes * (1 - spareShare);
    for (const { file, chunk } of this.#leastRecentlyUsed()) {
      if (excess <= 0) {
        return;
      }
      excess -= file.roomOf(chunk);
      file.evict(chunk);
      this.#onEvicted(file, chunk);
    }
  }

  #leastRecentlyUsed(): { file: LayerFile; chunk: number; used: number }[] {
    const candidates: { file: LayerFile; chunk: number; used: number }[] = [];
    for (const { file, isDevice } of this.#layers()) {
      for (const chunk of isDevice ? [] : file.content.chunks.keys()) {
        if (file.isPresent(chunk)) {
          candidates.push({ file, chunk, used: file.shared.used[chunk] ?? 0 });
        }
      }
    }
    return candidates.sort((one, other) => one.used - other.used);
  }
}
