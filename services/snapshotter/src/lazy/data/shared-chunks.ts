import { DigestIndex } from "./digest-index.ts";
import type { OtherLayers } from "./layer-fetcher.ts";
import type { LayerFile } from "./layer-file.ts";

export interface SharedChunksOptions {
  readonly makeRoom: (bytes: number) => void;
  /** A chunk has come into the layer with that number. */
  readonly onAdded: (layer: number) => void;
}

/** What layers have in common: chunks of one digest are fetched once, and copied on the disk. */
export class SharedChunks implements OtherLayers {
  readonly #fileOf: (layer: number) => LayerFile | undefined;
  readonly #options: SharedChunksOptions;
  readonly #index = new DigestIndex();
  readonly #fetching = new Map<string, Promise<unknown>>();

  constructor(fileOf: (layer: number) => LayerFile | undefined, options: SharedChunksOptions) {
    this.#fileOf = fileOf;
    this.#options = options;
  }

  copy(file: LayerFile, chunk: number): boolean {
    const digest = digestOf(file, chunk);
    const place = this.#index.find(digest);
    const other = place && this.#fileOf(place.layer);
    const isSame = other !== undefined && digestOf(other, place?.chunk ?? 0) === digest;
    if (place === undefined || !isSame || (other === file && place.chunk === chunk)) {
      return false;
    }
    // Before it is looked at: making room may be what takes it away.
    this.#options.makeRoom(file.roomOf(chunk));
    if (!other.isPresent(place.chunk) || !other.verify(place.chunk)) {
      return false;
    }
    file.putCopy(chunk, other, place.chunk);
    this.added(file, chunk);
    return true;
  }

  fetching(file: LayerFile, chunk: number): Promise<unknown> | undefined {
    return this.#fetching.get(digestOf(file, chunk));
  }

  begin(file: LayerFile, chunk: number, done: Promise<unknown>): void {
    const digest = digestOf(file, chunk);
    if (!this.#fetching.has(digest)) {
      this.#fetching.set(digest, done);
      done.then(() => this.#fetching.delete(digest)).catch(() => undefined);
    }
  }

  makeRoom(bytes: number): void {
    this.#options.makeRoom(bytes);
  }

  added(file: LayerFile, chunk: number): void {
    this.#index.add(digestOf(file, chunk), { layer: file.shared.number, chunk });
    this.#options.onAdded(file.shared.number);
  }

  /** `chunk` is no longer there. */
  evicted(file: LayerFile, chunk: number): void {
    this.#index.remove(digestOf(file, chunk), { layer: file.shared.number, chunk });
  }

  /** What `file` has of an earlier process may be of use to others. */
  addPresent(file: LayerFile): void {
    for (const chunk of file.content.chunks.keys()) {
      if (file.isPresent(chunk)) {
        this.#index.add(digestOf(file, chunk), { layer: file.shared.number, chunk });
      }
    }
  }

  forget(file: LayerFile): void {
    for (const chunk of file.content.chunks.keys()) {
      this.evicted(file, chunk);
    }
  }
}

function digestOf(file: LayerFile, chunk: number): string {
  return file.content.chunks[chunk]?.chunk.digest ?? "";
}
