import { setTimeout as sleep } from "node:timers/promises";
import type { AheadCache } from "../data/ahead-cache.ts";
import { BackgroundFetch } from "../data/background-fetch.ts";
import { LayerFetcher, type OtherLayers } from "../data/layer-fetcher.ts";
import { LayerFile } from "../data/layer-file.ts";
import type { Quota } from "../data/quota.ts";
import type { Slots } from "../data/slots.ts";
import type { BlobReader } from "../source/blob-reader.ts";
import type { DetailedStatus, FailureLog } from "./layer-status.ts";
import type { StoredLayer } from "./layer-store.ts";

/** The labels of the snapshot that has last asked for a layer: with them its registry is found, and who may open it. */
export interface LabelHolder {
  labels: Readonly<Record<string, string>>;
}

export interface LiveLayerOptions {
  readonly stored: StoredLayer;
  readonly failures: FailureLog;
  readonly labels: LabelHolder;
  readonly reader: BlobReader;
  readonly clock: Float64Array<SharedArrayBuffer>;
  readonly slots: Slots;
  readonly quota: Quota;
  readonly others: OtherLayers;
  readonly ahead: AheadCache;
  readonly onComplete: (layer: LiveLayer) => void;
  readonly onFull: (layer: LiveLayer) => void;
}

/** A layer that is being served: its file, and what fetches into it. */
export class LiveLayer implements AsyncDisposable {
  stored: StoredLayer;
  readonly file: LayerFile;
  readonly fetcher: LayerFetcher;
  readonly #options: LiveLayerOptions;
  readonly #background: BackgroundFetch;
  readonly #stopped = new AbortController();
  #prefetched: Promise<unknown> = Promise.resolve();
  #running: Promise<unknown> = Promise.resolve();
  #isPrefetching = false;
  #isSynced = false;
  #completing: Promise<void> | undefined;

  constructor(options: LiveLayerOptions) {
    const { stored, reader, clock, slots, others, ahead, quota, failures } = options;
    this.#options = options;
    this.stored = stored;
    this.file = new LayerFile(stored.content, {
      dataPath: `${stored.directory}/data`,
      presentPath: `${stored.directory}/present`,
      usedPath: `${stored.directory}/used`,
      clock,
      isPinned: () => this.isDevice,
    });
    const { signal } = this.#stopped;
    this.fetcher = new LayerFetcher({
      file: this.file,
      reader,
      slots,
      others,
      ahead,
      signal,
      onFailure: (error) => failures.add(error),
    });
    this.#background = new BackgroundFetch({
      fetcher: this.fetcher,
      quota,
      slots,
      signal,
      sendsWhole: () => reader.sendsWhole,
      onFull: () => options.onFull(this),
    });
  }

  get number(): number {
    return this.stored.info.number;
  }

  get labelHolder(): LabelHolder {
    return this.#options.labels;
  }

  get isDevice(): boolean {
    return this.stored.info.isDevice;
  }

  /** Whether all of it is there, checked by this process, and on the disk. */
  get isComplete(): boolean {
    return this.#isSynced && this.file.isComplete;
  }

  /** Begins to fetch what is wanted before a container starts, and then, if `isWhole`, the rest. */
  fetchAhead({ isPrefetched, isWhole }: { isPrefetched: boolean; isWhole: boolean }): void {
    const { prefetchBytes = 0 } = this.stored.content;
    if (isPrefetched && prefetchBytes > 0) {
      this.#prefetched = this.#background
        .fetchBefore(prefetchBytes)
        .catch((error: Error) => this.#failed(error));
    }
    if (isWhole) {
      this.#running = this.#prefetched
        .then(() => this.#background.run())
        .catch((error: Error) => this.#failed(error));
    }
  }

  /** Waits until what is wanted before a container starts is there or has failed, but no longer than so long. */
  async prefetched(timeoutMs: number): Promise<void> {
    const over = new AbortController();
    const timeout = sleep(timeoutMs, undefined, { signal: over.signal }).catch(() => undefined);
    await Promise.race([this.#prefetched, timeout]);
    over.abort();
  }

  /** To be told whenever a chunk has come. */
  async chunkAdded(): Promise<void> {
    this.#options.failures.resolve();
    if (!this.file.isComplete || this.isComplete) {
      return;
    }
    this.#completing ??= this.#complete().finally(() => {
      this.#completing = undefined;
    });
    await this.#completing;
  }

  noteFailure(error: Error): void {
    this.#options.failures.add(error);
  }

  /** Something of it has been given up. */
  evicted(): void {
    this.#isSynced = false;
  }

  status(): DetailedStatus {
    const { file, fetcher, stored, isDevice, isComplete } = this;
    const { info, content } = stored;
    const { reader, failures } = this.#options;
    let [contentBytes, verifiedBytes, cachedBytes] = [0, 0, 0];
    for (const [index, { chunk }] of content.chunks.entries()) {
      contentBytes += chunk.sizeBytes;
      verifiedBytes += file.isVerified(index) ? chunk.sizeBytes : 0;
      cachedBytes += file.isPresent(index) ? chunk.sizeBytes : 0;
    }
    return {
      number: info.number,
      digest: info.digest,
      tocDigest: info.tocDigest,
      reference: info.reference,
      contentBytes,
      verifiedBytes,
      cachedBytes,
      blobBytes: info.blobBytes,
      fetchedBytes: fetcher.fetchedBytes,
      requests: reader.requests,
      host: reader.host,
      isComplete,
      isDevice,
      activity: this.#activity(),
      background: this.#background.state,
      failure: failures.unresolved,
      failureCount: failures.count,
      failures: failures.latest,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort(new Error("the layer is not served any more"));
    await Promise.allSettled([this.#prefetched, this.#running, this.#completing]);
    this.file[Symbol.dispose]();
  }

  #activity(): DetailedStatus["activity"] {
    if (this.#isPrefetching) {
      return "prefetch";
    }
    return this.#background.state === "running" ? "background" : "none";
  }

  async #complete(): Promise<void> {
    await this.file.sync();
    if (this.file.isComplete) {
      this.#isSynced = true;
      this.#options.onComplete(this);
    }
  }

  #failed(error: Error): void {
    if (!this.#stopped.signal.aborted) {
      this.#options.failures.add(error);
    }
  }
}
