import { existsSync, readdirSync, realpathSync } from "node:fs";
import { basename, dirname } from "node:path";
import { NotFoundError, ServiceError, UnavailableError } from "@oci-worker/errdefs";
import { readMountInfo } from "@oci-worker/mounts/mountinfo";
import type { Logger } from "pino";
import type { LayerIdentity, LayerMounts, LazyLayers, OpenedLayer } from "../../lazy/lazy-layers.ts";
import { quote } from "../../metastore/key.ts";
import type { SnapshotRecord } from "../../metastore/record.ts";
import { contentOf } from "../backend.ts";
import type { OwnMounts } from "../mounts-in-the-way.ts";
import { notedLayer, noteLayer } from "./layer-note.ts";

export interface LazyMountsOptions {
  /** The directory that holds those of the snapshots, each named by its id. */
  readonly snapshots: string;
  readonly layers: LazyLayers;
  readonly mounts: LayerMounts;
  /** How long it may take to find a layer whose files are gone once more. */
  readonly openTimeoutMs: number;
  readonly log: Logger;
}

/** A snapshot whose content is a layer that is to be mounted. */
interface Entry {
  /** Undefined if the note of which one it is cannot be read. */
  readonly layer: LayerIdentity | undefined;
  /** Whether an earlier process has mounted something there. */
  readonly isLeft: boolean;
  /** Whether the files are read out of the data file of the layer, past all of ours. */
  isDirect: boolean;
  /** The mount that is made or is there; undefined while nobody has wanted it since the start. */
  mounted: Promise<OpenedLayer> | undefined;
}

/**
 * The lazy layers that are mounted in the directories of snapshots.
 *
 * After a restart each is mounted again when it is first needed, all of a chain at the same time, so that none keeps
 * the service, or the snapshots of others, waiting.
 */
export class LazyMounts implements OwnMounts {
  readonly #options: LazyMountsOptions;
  readonly #realDirectory: string;
  readonly #entries = new Map<number, Entry>();

  /** Looks at what an earlier process has left. Asks nobody and mounts nothing. */
  static async open(options: LazyMountsOptions): Promise<LazyMounts> {
    const { snapshots, log } = options;
    const names = existsSync(snapshots) ? readdirSync(snapshots).filter((name) => /^\d+$/.test(name)) : [];
    const lazyMounts = new LazyMounts(options, existsSync(snapshots) ? realpathSync(snapshots) : snapshots);
    const left = new Set((await readMountInfo()).map(({ mountPoint }) => mountPoint));
    for (const name of names) {
      lazyMounts.#find(Number(name), left, log);
    }
    options.layers.onComplete((layer) => {
      for (const id of lazyMounts.showing(layer)) {
        lazyMounts.#useFile(id);
      }
    });
    return lazyMounts;
  }

  private constructor(options: LazyMountsOptions, realDirectory: string) {
    this.#options = options;
    this.#realDirectory = realDirectory;
  }

  /** The ids of the snapshots whose content is a lazy layer. */
  get ids(): number[] {
    return [...this.#entries.keys()];
  }

  /** The layer that the snapshot `id` shows; undefined if that is not a lazy one. */
  layerOf(id: number): LayerIdentity | undefined {
    return this.#entries.get(id)?.layer;
  }

  /** The ids of the snapshots that show `layer`. */
  showing(layer: LayerIdentity): number[] {
    return [...this.#entries].filter(([, entry]) => isSame(entry.layer, layer)).map(([id]) => id);
  }

  /** Makes `layer` the content of the new snapshot `id`, whose content directory is empty. */
  async put(id: number, layer: OpenedLayer): Promise<void> {
    noteLayer(this.#directoryOf(id), layer);
    const entry: Entry = { layer, isLeft: false, isDirect: false, mounted: undefined };
    const mounted = this.#mount(id, entry, layer);
    entry.mounted = mounted;
    this.#entries.set(id, entry);
    // The last piece may have come since it was opened, when nobody could be told of it.
    this.#useFile(id);
    await mounted;
  }

  /**
   * Sees to it that those of the snapshots `ids` whose content is a lazy layer show it, and waits for what their images
   * need at the start.
   *
   * @throws {UnavailableError} naming the first one that does not, its layer and why.
   */
  async require(ids: readonly number[], find: (id: number) => SnapshotRecord | undefined): Promise<void> {
    const wanted = ids.filter((id) => this.#entries.has(id));
    if (wanted.length > 0) {
      // All of them are tried: whoever calls again finds the others there.
      const outcomes = await Promise.allSettled(wanted.map((id) => this.#require(id, find(id))));
      const failed = outcomes.find(({ status }) => status === "rejected");
      if (failed !== undefined && "reason" in failed) {
        throw failed.reason;
      }
    }
  }

  holds(mountPoint: string): boolean {
    const directory = dirname(mountPoint);
    return (
      dirname(directory) === this.#realDirectory &&
      mountPoint === contentOf(directory) &&
      this.#entries.has(Number(basename(directory)))
    );
  }

  async release(directory: string): Promise<void> {
    const id = Number(basename(directory));
    const entry = this.#entries.get(id);
    if (entry === undefined) {
      return;
    }
    const layer = await entry.mounted?.catch(() => undefined);
    if (entry.isLeft || layer !== undefined) {
      await this.#options.mounts.unmountLayer(this.#targetOf(id));
    }
    this.#entries.delete(id);
    await this.#forgetUnused(entry.layer, layer?.number);
  }

  async #forgetUnused(layer: LayerIdentity | undefined, number: number | undefined): Promise<void> {
    const { layers, log } = this.#options;
    if (layer === undefined || this.#entries.values().some((each) => isSame(each.layer, layer))) {
      return;
    }
    try {
      await layers.forget(number ?? (await layers.reopen(layer)).number);
    } catch (error) {
      if (!isNotFound(error)) {
        log.warn({ digest: layer.digest, err: error }, "lazy layer that nobody shows not forgotten");
      }
    }
  }

  async #require(id: number, record: SnapshotRecord | undefined): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined || record === undefined) {
      return;
    }
    entry.mounted ??= this.#restore(id, entry, record);
    this.#useFile(id);
    try {
      const { number } = await entry.mounted;
      await this.#options.layers.prefetched(number);
    } catch (cause) {
      // The next one who needs it tries again.
      entry.mounted = undefined;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new UnavailableError(
        `Cannot show ${quote(record.name)}: its layer ${entry.layer?.digest ?? "(unknown)"} cannot be mounted: ${why}`,
        { cause },
      );
    }
  }

  async #restore(id: number, entry: Entry, record: SnapshotRecord): Promise<OpenedLayer> {
    const { mounts, log } = this.#options;
    const { layer, isLeft } = entry;
    const target = this.#targetOf(id);
    // Throws if the note is damaged.
    const noted = layer ?? notedLayer(this.#directoryOf(id));
    if (noted === undefined) {
      throw new NotFoundError(`Cannot find out which layer it shows: its note is gone`);
    }
    const opened = await this.#reopen(noted, record);
    if (!isLeft || !mounts.adopted) {
      if (isLeft) {
        await mounts.unmountLayer(target);
      }
      await this.#mount(id, entry, opened);
    } else {
      entry.isDirect = opened.isDevice;
    }
    log.info(
      { name: record.name, digest: noted.digest, adopted: isLeft && mounts.adopted },
      "lazy layer restored",
    );
    return opened;
  }

  async #mount(id: number, entry: Entry, layer: OpenedLayer): Promise<OpenedLayer> {
    const { layers, mounts } = this.#options;
    const canUseFile = mounts.useFile !== undefined && layer.isComplete;
    const isComplete = canUseFile && (await layers.useAsDevice(layer.number));
    await mounts.mountLayer({ ...layer, isComplete }, this.#targetOf(id));
    entry.isDirect = isComplete;
    if (isComplete) {
      this.#tellDirect(id, layer);
    }
    return layer;
  }

  /**
   * Has what the snapshot `id` shows read out of the layer's file, if that is complete and the snapshot has been wanted since
   * the start. What fails is tried again when it is wanted next.
   */
  #useFile(id: number): void {
    const entry = this.#entries.get(id);
    if (entry?.mounted === undefined || entry.isDirect || this.#options.mounts.useFile === undefined) {
      return;
    }
    // Whoever releases it waits for this too.
    entry.mounted = entry.mounted.then(async (opened) => {
      await this.#takeOut(id, entry, opened).catch((error: unknown) =>
        this.#options.log.warn({ digest: opened.digest, err: error }, "complete layer is still served"),
      );
      return opened;
    });
    // Told to whoever has mounted it.
    entry.mounted.catch(() => undefined);
  }

  async #takeOut(id: number, entry: Entry, opened: OpenedLayer): Promise<void> {
    const { layers, mounts } = this.#options;
    const layer = await layers.reopen(opened);
    const isWanted = !entry.isDirect && layer.isComplete && layer.dataBlocks > 0;
    if (isWanted && (await layers.useAsDevice(layer.number))) {
      await mounts.useFile?.(layer, this.#targetOf(id));
      entry.isDirect = true;
      this.#tellDirect(id, layer);
    }
  }

  #tellDirect(id: number, { digest }: OpenedLayer): void {
    this.#options.log.info({ digest, id }, "complete layer is read past the snapshotter");
  }

  /** Opens the layer `noted` from what is on disk, or else from where `record` says it is. */
  async #reopen(noted: LayerIdentity, { labels }: SnapshotRecord): Promise<OpenedLayer> {
    const { layers, openTimeoutMs } = this.#options;
    try {
      return await layers.reopen(noted);
    } catch (error) {
      if (!isNotFound(error)) {
        throw error;
      }
    }
    const opened = await layers.open(labels, AbortSignal.timeout(openTimeoutMs));
    if (!isSame(opened, noted)) {
      throw new UnavailableError(
        `Cannot take layer ${opened.digest} with table of contents ${opened.tocDigest}: want ${noted.digest} with ${noted.tocDigest}`,
      );
    }
    return opened;
  }

  #find(id: number, left: ReadonlySet<string>, log: Logger): void {
    const isLeft = left.has(contentOf(`${this.#realDirectory}/${id}`));
    try {
      const layer = notedLayer(this.#directoryOf(id));
      if (layer !== undefined) {
        this.#entries.set(id, { layer, isLeft, isDirect: false, mounted: undefined });
      }
    } catch (error) {
      log.error({ id, err: error }, "snapshot of a lazy layer is damaged");
      this.#entries.set(id, { layer: undefined, isLeft, isDirect: false, mounted: undefined });
    }
  }

  #directoryOf(id: number): string {
    return `${this.#options.snapshots}/${id}`;
  }

  #targetOf(id: number): string {
    return contentOf(this.#directoryOf(id));
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof ServiceError && error.reason === "NOT_FOUND";
}

function isSame(one: LayerIdentity | undefined, other: LayerIdentity): boolean {
  return one?.digest === other.digest && one.tocDigest === other.tocDigest;
}
