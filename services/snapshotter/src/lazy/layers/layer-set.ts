import {
  DeadlineExceededError,
  FailedPreconditionError,
  NotFoundError,
  ServiceError,
} from "@oci-worker/errdefs";
import { type TocDigest, tocDigestOf } from "@oci-worker/estargz/annotations";
import { type OpenLayer, openLayer } from "@oci-worker/estargz/open";
import { Flights } from "@oci-worker/flights";
import type { RegistryClient } from "@oci-worker/registry/client";
import type { SourceClient } from "@oci-worker/sources/source-client";
import { AheadCache } from "../data/ahead-cache.ts";
import { Quota } from "../data/quota.ts";
import { SharedChunks } from "../data/shared-chunks.ts";
import { Slots } from "../data/slots.ts";
import type { SharedLayer } from "../device/shared-layer.ts";
import type { LayerIdentity, OpenedLayer } from "../lazy-layers.ts";
import { planLayer, type XattrNamespace } from "../plan/layer-plan.ts";
import { BlobReader } from "../source/blob-reader.ts";
import { readExternalToc } from "../source/external-toc.ts";
import { type LayerPlaces, layerPlaces } from "../source/layer-places.ts";
import { type LayerInfo, lastingLabels } from "./layer-info.ts";
import { type DetailedStatus, FailureLog } from "./layer-status.ts";
import { LayerStore, type StoredLayer } from "./layer-store.ts";
import { type LabelHolder, LiveLayer, type LiveLayerOptions } from "./live-layer.ts";

/** What an operator can set of lazy layers. */
export interface LazySettings {
  /** For what is fetched of all layers; undefined: no limit. */
  readonly cacheQuotaBytes: number | undefined;
  /** Whether what an image asks for is fetched before a container starts, and how long is waited for it. */
  readonly prefetch: boolean;
  readonly prefetchTimeoutMs: number;
  /** Whether all of a layer is fetched while nobody waits. */
  readonly backgroundFetch: boolean;
  /** How long a read waits for a registry that gives nothing. */
  readonly fetchTimeoutMs: number;
  /** How long opening a layer may take, before it is unpacked instead. */
  readonly openTimeoutMs: number;
  /** Whether layers are taken whose table of contents nobody vouches for. */
  readonly allowUnverified: boolean;
  /** Requests to registries at a time. */
  readonly maxConcurrentFetches: number;
  /** Where overlayfs looks for its marks. */
  readonly xattrNamespace: XattrNamespace;
}

export interface LayerSetOptions {
  /** Directory for all of it. */
  readonly root: string;
  readonly settings: LazySettings;
  readonly sources: SourceClient;
  readonly registry: RegistryClient;
  /** From now on there is this layer, or no longer, for the threads that serve the kernel. */
  readonly onAdded: (layer: SharedLayer) => void;
  readonly onRemoved: (number: number) => void;
  /** All of it is there now, and checked. */
  readonly onComplete: (layer: LayerIdentity) => void;
  readonly log: (message: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** How often it is written down what was used last. */
const saveUseMs = 30_000;

/** The lazy layers of one root. For one thread: it reads, checks and writes all that they have. */
export class LayerSet implements AsyncDisposable {
  readonly #options: LayerSetOptions;
  readonly #store: LayerStore;
  readonly #layers = new Map<number, LiveLayer>();
  readonly #openings = new Flights<OpenedLayer>();
  readonly #clock = new Float64Array(new SharedArrayBuffer(8));
  readonly #slots: Slots;
  readonly #quota: Quota;
  readonly #shared: SharedChunks;
  readonly #ahead = new AheadCache();
  readonly #saving: NodeJS.Timeout | undefined;
  /** Whose image was looked at by this process. */
  readonly #checkedImages = new Set<number>();

  constructor(options: LayerSetOptions) {
    const { settings, root } = options;
    this.#options = options;
    this.#slots = new Slots(settings.maxConcurrentFetches);
    this.#shared = new SharedChunks((number) => this.#layers.get(number)?.file, {
      makeRoom: (bytes) => this.#quota.makeRoom(bytes),
      onAdded: (number) => {
        this.#layers
          .get(number)
          ?.chunkAdded()
          .catch((error: Error) => this.noteFailure(number, error));
      },
    });
    this.#quota = new Quota(
      settings.cacheQuotaBytes,
      () => this.#layers.values(),
      (file, chunk) => {
        this.#shared.evicted(file, chunk);
        this.#layers.get(file.shared.number)?.evicted();
      },
    );
    this.#saving =
      settings.cacheQuotaBytes === undefined
        ? undefined
        : setInterval(() => this.#saveUse(), saveUseMs).unref();
    this.#store = new LayerStore(root);
    for (const stored of this.#store.load()) {
      this.#addStored(stored);
    }
    for (const { directory, reason } of this.#store.broken) {
      options.log("lazy layer is damaged, it is made anew when it is opened", { directory, reason });
    }
  }

  /** What fetches for the layer, for reads of the kernel. */
  fetcherOf(number: number) {
    return this.#layers.get(number)?.fetcher;
  }

  noteFailure(number: number, error: Error): void {
    this.#layers.get(number)?.noteFailure(error);
    this.#options.log("lazy layer cannot be read", { layer: number, reason: error.message });
  }

  /**
   * Makes the layer that a snapshot with `labels` is for ready to be mounted. One that is on disk takes no network.
   *
   * @throws {ServiceError} with the reason why it cannot be mounted lazily.
   */
  async open(labels: Readonly<Record<string, string>>, signal: AbortSignal): Promise<OpenedLayer> {
    // The container that it is for is started next.
    this.#slots.noteWait();
    const known = this.#find(labels);
    if (known !== undefined && this.#hasImage(known)) {
      await this.#refreshLabels(known, labels);
      return this.#opened(known);
    }
    const key = `${layerDigests(labels).join()} ${tocDigestOf(labels)?.digest ?? ""}`;
    return await this.#openings.join(
      key,
      (limit) => {
        const timeout = AbortSignal.timeout(this.#options.settings.openTimeoutMs);
        return this.#openAnew(labels, AbortSignal.any([limit, timeout])).catch((error: unknown) => {
          throw timeout.aborted && !(error instanceof ServiceError)
            ? new DeadlineExceededError(
                `Cannot open lazy layer: it took longer than ${this.#options.settings.openTimeoutMs} ms`,
              )
            : error;
        });
      },
      signal,
    );
  }

  /**
   * A layer that was opened before, from what is on disk: asks nobody.
   *
   * @throws {NotFoundError} if that is gone, or damaged.
   */
  reopen({ digest, tocDigest }: LayerIdentity): OpenedLayer {
    const layer = [...this.#layers.values()].find(
      ({ stored: { info } }) => info.digest === digest && info.tocDigest === tocDigest,
    );
    if (layer === undefined || !this.#hasImage(layer)) {
      throw new NotFoundError(
        `Cannot open lazy layer ${digest}: ${layer ? "its image is damaged" : "it is not on disk"}`,
      );
    }
    return this.#opened(layer);
  }

  /** What threads that serve the kernel have to know of each layer. */
  shared(): SharedLayer[] {
    return [...this.#layers.values()].map(({ file }) => file.shared);
  }

  /** Waits until what the layer's image wants before it is started is there, no longer than the settings say. */
  async prefetched(number: number): Promise<void> {
    await this.#layers.get(number)?.prefetched(this.#options.settings.prefetchTimeoutMs);
  }

  /**
   * Promises that the data file of the layer stays as it is, to be mounted itself, until {@link releaseDevice}. So does an
   * earlier process that has been killed.
   *
   * @returns false if it is not complete, or too much of the quota is promised already.
   */
  async useAsDevice(number: number): Promise<boolean> {
    const layer = this.#layers.get(number);
    if (layer === undefined || (!layer.isComplete && !layer.isDevice)) {
      return false;
    }
    if (!layer.isDevice) {
      if (!this.#quota.canPromise(layer.file)) {
        return false;
      }
      const before = layer.stored;
      // Nothing of it may go while that is being written.
      layer.stored = { ...before, info: { ...before.info, isDevice: true } };
      layer.stored = await this.#store.update(before, { isDevice: true });
    }
    return true;
  }

  /** The data file of the layer is mounted nowhere. */
  async releaseDevice(number: number): Promise<void> {
    const layer = this.#layers.get(number);
    if (layer?.isDevice) {
      layer.stored = await this.#store.update(layer.stored, { isDevice: false });
    }
  }

  /** Deletes the layer, which is mounted nowhere. */
  async forget(number: number): Promise<void> {
    const layer = this.#layers.get(number);
    if (layer === undefined) {
      return;
    }
    this.#layers.delete(number);
    this.#checkedImages.delete(number);
    this.#options.onRemoved(number);
    this.#shared.forget(layer.file);
    await layer[Symbol.asyncDispose]();
    this.#store.remove(layer.stored);
    this.#quota.freed();
  }

  status(): DetailedStatus[] {
    return [...this.#layers.values()].map((layer) => layer.status());
  }

  /** Paths of the files of the layer that have been read, in the order of their first read by this process. */
  firstReads(number: number): string[] {
    const layer = this.#layers.get(number);
    if (layer === undefined) {
      return [];
    }
    const paths = this.#store.pathsOf(layer.stored);
    const starts = [...paths.keys()].sort((one, other) => one - other);
    const { firstReads, starts: chunkStarts } = layer.file.shared;
    const read = new Set<string>();
    for (const chunk of firstReads.subarray(1, 1 + (firstReads[0] ?? 0))) {
      const at = chunkStarts[chunk] ?? 0;
      const start = starts[lastAtMost(starts, at)];
      const path = start === undefined ? undefined : paths.get(start);
      if (path !== undefined) {
        read.add(path);
      }
    }
    return [...read];
  }

  /** Not so often that it costs anything; what was read since is as if it had not been, after a kill. */
  #saveUse(): void {
    for (const { number, file } of this.#layers.values()) {
      try {
        file.saveUse();
      } catch (error) {
        this.#options.log("use of lazy layer not written down", { layer: number, reason: String(error) });
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#saving);
    if (this.#saving !== undefined) {
      this.#saveUse();
    }
    await Promise.all([...this.#layers.values()].map((layer) => layer[Symbol.asyncDispose]()));
    this.#layers.clear();
  }

  #find(labels: Readonly<Record<string, string>>): LiveLayer | undefined {
    const digests = new Set<string>(layerDigests(labels));
    const trusted = tocDigestOf(labels);
    return [...this.#layers.values()].find(
      ({ stored: { info } }) => digests.has(info.digest) && this.#isTrusted(info, trusted),
    );
  }

  #isTrusted(info: LayerInfo, trusted: TocDigest | undefined): boolean {
    if (trusted === undefined) {
      return this.#options.settings.allowUnverified;
    }
    const { of, digest } = info.trusted ?? { of: "JSON", digest: info.tocDigest };
    return (
      (trusted.of === "JSON" && trusted.digest === info.tocDigest) ||
      (trusted.of === of && trusted.digest === digest)
    );
  }

  /** Once for each process: a damaged image must not be mounted. */
  #hasImage(layer: LiveLayer): boolean {
    const { number, stored } = layer;
    if (!this.#checkedImages.has(number) && this.#store.hasImage(stored)) {
      this.#checkedImages.add(number);
    }
    return this.#checkedImages.has(number);
  }

  async #refreshLabels(layer: LiveLayer, labels: Readonly<Record<string, string>>): Promise<void> {
    layer.labelHolder.labels = labels;
    const lasting = lastingLabels(labels);
    if (JSON.stringify(lasting) !== JSON.stringify(layer.stored.info.labels)) {
      layer.stored = await this.#store.update(layer.stored, { labels: lasting });
    }
  }

  async #openAnew(labels: Readonly<Record<string, string>>, signal: AbortSignal): Promise<OpenedLayer> {
    const found = await layerPlaces(labels, this.#options, signal);
    const trusted = trustedDigest(labels, found);
    if (trusted === undefined && !this.#options.settings.allowUnverified) {
      throw new FailedPreconditionError(
        `Cannot mount layer ${found.digest} lazily: no label says the digest of its table of contents, so nothing of it could be trusted`,
      );
    }
    const failures = new FailureLog();
    const holder: LabelHolder = { labels };
    const reader = this.#reader(holder, failures, found);
    const { layer, tail } = await readLayer(reader, found, trusted, signal);
    const stored = await this.#store.create({
      digest: found.digest,
      tocDigest: layer.tocDigest,
      ...(trusted && { trusted }),
      reference: found.reference,
      labels: lastingLabels(labels),
      blobBytes: layer.blobBytes,
      plan: planLayer(layer.tree, { xattrNamespace: this.#options.settings.xattrNamespace }),
      compression: layer.compression,
    });
    this.#checkedImages.add(stored.info.number);
    const existing = this.#layers.get(stored.info.number);
    if (existing !== undefined) {
      existing.stored = { ...stored, info: { ...stored.info, isDevice: existing.isDevice } };
      return this.#opened(existing);
    }
    const live = this.#add(stored, { reader, failures, labels: holder });
    live.fetcher.offer(layer.blobBytes - tail.length, tail);
    this.#fetchAhead(live);
    return this.#opened(live);
  }

  #addStored(stored: StoredLayer): void {
    const failures = new FailureLog();
    const labels: LabelHolder = { labels: stored.info.labels };
    const live = this.#add(stored, { reader: this.#reader(labels, failures), failures, labels });
    this.#shared.addPresent(live.file);
    this.#fetchAhead(live);
  }

  #add(stored: StoredLayer, parts: Pick<LiveLayerOptions, "reader" | "failures" | "labels">): LiveLayer {
    const live = new LiveLayer({
      stored,
      ...parts,
      clock: this.#clock,
      slots: this.#slots,
      quota: this.#quota,
      others: this.#shared,
      ahead: this.#ahead,
      onFull: ({ number }) => this.#options.log("no room to fetch lazy layer ahead", { layer: number }),
      onComplete: ({ number, stored: { info } }) => {
        this.#options.log("lazy layer is complete", { layer: number });
        this.#options.onComplete({ digest: info.digest, tocDigest: info.tocDigest });
      },
    });
    this.#layers.set(live.number, live);
    this.#options.onAdded(live.file.shared);
    return live;
  }

  #fetchAhead(live: LiveLayer): void {
    const { prefetch, backgroundFetch } = this.#options.settings;
    live.fetchAhead({ isPrefetched: prefetch, isWhole: backgroundFetch });
  }

  #reader(holder: LabelHolder, failures: FailureLog, found?: LayerPlaces): BlobReader {
    const { settings } = this.#options;
    return new BlobReader({
      ...(found && { places: found.places }),
      load: async () => {
        const signal = AbortSignal.timeout(settings.openTimeoutMs);
        return (await layerPlaces(holder.labels, this.#options, signal)).places;
      },
      timeoutMs: settings.fetchTimeoutMs,
      onFailure: (error, host) => failures.add(error, host),
    });
  }

  #opened({ stored, isComplete, isDevice }: LiveLayer): OpenedLayer {
    const { info, content, directory } = stored;
    return {
      number: info.number,
      digest: info.digest,
      tocDigest: info.tocDigest,
      metaPath: this.#store.metaPath(stored),
      metaDigest: info.metaDigest,
      dataPath: `${directory}/data`,
      dataBlocks: content.dataBlocks,
      isComplete,
      isDevice,
    };
  }
}

/** Labels that name a layer; those of BuildKit have an id behind them (reference of stargz-snapshotter and containerd's CRI). */
const digestLabel = /^containerd\.io\/snapshot\/(remote\/stargz\.digest(\..*)?|cri\.layer-digest)$/;

function layerDigests(labels: Readonly<Record<string, string>>): string[] {
  return [
    ...new Set(Object.entries(labels).flatMap(([key, value]) => (digestLabel.test(key) ? [value] : []))),
  ].sort();
}

function trustedDigest(
  labels: Readonly<Record<string, string>>,
  { tocDigest }: LayerPlaces,
): TocDigest | undefined {
  return tocDigestOf(labels) ?? (tocDigest && { of: "JSON", digest: tocDigest });
}

/** Reads the table of contents, and gives what was read with it. */
async function readLayer(
  reader: BlobReader,
  found: LayerPlaces,
  trusted: TocDigest | undefined,
  signal: AbortSignal,
): Promise<{ layer: OpenLayer; tail: Buffer }> {
  let tail = Buffer.alloc(0) as Buffer;
  const layer = await openLayer(
    {
      readTail: async (maxBytes) => {
        const read = await reader.readTail(maxBytes, signal);
        tail = read.tail;
        return read;
      },
      read: (offset, sizeBytes) => reader.read(offset, sizeBytes, signal),
    },
    { trusted, readExternalToc: (maxBytes) => readExternalToc(found, maxBytes, signal) },
  );
  if (layer === undefined) {
    throw new NotFoundError(
      `Cannot mount layer ${found.digest} lazily: it is an ordinary one, without a table of contents`,
    );
  }
  return { layer, tail };
}

/** Place of the last of `sorted` that is at most `value`; -1 if none is. */
function lastAtMost(sorted: readonly number[], value: number): number {
  let [from, to] = [0, sorted.length];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if ((sorted[middle] ?? 0) <= value) {
      from = middle + 1;
    } else {
      to = middle;
    }
  }
  return from - 1;
}
