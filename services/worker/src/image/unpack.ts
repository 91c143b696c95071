import { availableParallelism } from "node:os";
import { AlreadyExistsError, NotFoundError } from "@oci-worker/errdefs";
import { Flights } from "@oci-worker/flights";
import { applyLayer, type Progress } from "@oci-worker/layer/apply";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import type { ChainID } from "@oci-worker/oci/chain-id";
import type { Digest } from "@oci-worker/oci/digest";
import type { ImageLayer } from "@oci-worker/oci/manifest";
import type { Repository } from "@oci-worker/registry/repository";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { Logger } from "pino";
import type { Lease } from "../cache/lease.ts";
import type { CacheRecords } from "../cache/records.ts";
import type { ContentStore } from "../content/store.ts";
import { formatOf } from "../layers/layer-blob.ts";
import type { LayerBlobTable } from "../layers/layer-blob-table.ts";
import { newId } from "../new-id.ts";
import { Slots } from "../slots.ts";
import type { OperationContext } from "../solver/operation.ts";
import type { VertexReport } from "../solver/vertex-report.ts";
import { fetchLayer } from "./fetch-layer.ts";
import type { Image } from "./image.ts";
import { putInPlace, targetLabel } from "./lazy-layers.ts";

export interface UnpackerOptions {
  readonly snapshotter: Snapshotter;
  readonly records: CacheRecords;
  readonly content: ContentStore;
  readonly layerBlobs: LayerBlobTable;
  /** Where snapshots are mounted to be filled. */
  readonly mountDirectory: string;
  /** Whether the snapshotter may have layers that nobody has unpacked. */
  readonly isLazy: boolean;
  /** Layers of one image that are fetched at a time. */
  readonly maxFetches: number;
  readonly log: Logger;
}

/** Who wants an image unpacked. */
export type UnpackContext = Pick<OperationContext, "lease" | "report" | "signal">;

interface PullSource {
  /** Of the image, for people. */
  readonly name: string;
  readonly repository: Repository;
}

/**
 * Turns images into snapshots: fetches the layers that are missing and applies them one on top of the other.
 *
 * A layer that two builds want is fetched and unpacked once.
 */
export class Unpacker {
  readonly #snapshotter: Snapshotter;
  readonly #records: CacheRecords;
  readonly #content: ContentStore;
  readonly #layerBlobs: LayerBlobTable;
  readonly #mountDirectory: string;
  readonly #isLazy: boolean;
  readonly #maxFetches: number;
  readonly #log: Logger;
  readonly #unpacking = new Flights<void>();
  /** Each layer is unpacked by a thread of its own; more of them than cores only get in each other's way. */
  readonly #threads = new Slots(availableParallelism());

  constructor(options: UnpackerOptions) {
    this.#snapshotter = options.snapshotter;
    this.#records = options.records;
    this.#content = options.content;
    this.#layerBlobs = options.layerBlobs;
    this.#mountDirectory = options.mountDirectory;
    this.#isLazy = options.isLazy;
    this.#maxFetches = options.maxFetches;
    this.#log = options.log;
  }

  /**
   * Makes sure that the root file system of `image` is a committed snapshot, which the lease holds.
   *
   * @returns its name; undefined for an image without layers.
   */
  async unpack(image: Image, context: UnpackContext & PullSource): Promise<ChainID | undefined> {
    const { lease, signal } = context;
    const unpacked = await this.#countPresent(image.chain, lease, signal);
    const present = this.#isLazy ? await this.#putInPlace(image, unpacked, context) : unpacked;
    const missing = image.layers.slice(present);
    for (const { blob } of missing) {
      lease.holdBlob(blob.digest);
    }
    // One that fails ends the others; each is waited for, so that nothing goes on behind the caller's back.
    const ending = new AbortController();
    const limit = { ...context, signal: AbortSignal.any([signal, ending.signal]) };
    const { repository, report } = context;
    const fetches = startInOrder(missing, this.#maxFetches, ({ blob }) =>
      fetchLayer(blob, repository, this.#content, report, limit.signal),
    );
    try {
      for (const [index, layer] of missing.entries()) {
        await fetches[index];
        await this.#unpackShared(image.chain, present + index, layer, limit);
      }
    } catch (error) {
      ending.abort(error);
      throw error;
    } finally {
      await Promise.allSettled(fetches);
    }
    this.#noteBlobs(image, present, context.name);
    const top = image.chain.at(-1);
    if (top !== undefined) {
      this.#records.addBlobs(top, image.documents);
    }
    return top;
  }

  /** How many layers, from the base upwards, are snapshots already. Looks from the top: mostly all or none are. */
  async #countPresent(chain: readonly ChainID[], lease: Lease, signal: AbortSignal): Promise<number> {
    for (let count = chain.length; count > 0; count -= 1) {
      const name = chain[count - 1];
      if (name === undefined || !(await lease.hold(name))) {
        continue;
      }
      if (await this.#exists(name, signal)) {
        return count;
      }
      this.#records.forget(name);
    }
    return 0;
  }

  /**
   * Has the snapshotter put layers in place that need no unpack, from the one after `present` on.
   *
   * @returns how many there are now, from the base upwards. One that has to be unpacked ends it: those above stand on it.
   */
  async #putInPlace(
    { chain, layers }: Image,
    present: number,
    { lease, name: reference, report, signal }: UnpackContext & PullSource,
  ): Promise<number> {
    for (let index = present; index < layers.length; index += 1) {
      const name = chain[index];
      const parent = chain[index - 1];
      if (name === undefined) {
        return index;
      }
      const layer = { name, parent, layers: layers.slice(index), reference };
      if (!(await putInPlace(layer, this.#snapshotter, this.#log, signal))) {
        return index;
      }
      report.row(`${layers[index]?.blob.digest} is read when it is needed`).complete();
      this.#note({ name, parent, blobs: [], imageName: reference }, lease);
    }
    return layers.length;
  }

  /** Unpacks a layer, or waits for another build that does, and keeps it for both. */
  async #unpackShared(
    chain: readonly ChainID[],
    index: number,
    layer: ImageLayer,
    { lease, name: imageName, report, signal }: UnpackContext & PullSource,
  ): Promise<void> {
    const name = chain[index];
    if (name === undefined) {
      throw new Error(`layer ${index} has no chain id`);
    }
    const parent = chain[index - 1];
    await this.#unpacking.join(
      name,
      (shared) => this.#unpackLayer(name, parent, layer, report, shared),
      signal,
    );
    this.#note({ name, parent, blobs: [layer.blob.digest], imageName }, lease);
  }

  /** Notes what the layers can be handed out as; those from `unpacked` on are here. */
  #noteBlobs({ chain, layers }: Image, unpacked: number, reference: string): void {
    for (const [index, { blob, diffID }] of layers.entries()) {
      const [record, format] = [chain[index], formatOf(blob)];
      if (record !== undefined && format !== undefined) {
        const noted = { format, descriptor: blob, diffID, reference };
        if (index < unpacked) {
          this.#layerBlobs.suggest(record, noted);
        } else {
          this.#layerBlobs.put(record, noted);
        }
      }
    }
  }

  /** Makes the record of a layer that is there, for as long as the lease or somebody else holds it. */
  #note(
    {
      name,
      parent,
      blobs,
      imageName,
    }: {
      readonly name: ChainID;
      readonly parent: ChainID | undefined;
      readonly blobs: readonly Digest[];
      readonly imageName: string;
    },
    lease: Lease,
  ): void {
    const parents = parent === undefined ? [] : [parent];
    const description = `pulled from ${imageName}`;
    this.#records.add({ id: name, parents, type: "regular", description, mutable: false, blobs }, lease);
  }

  async #unpackLayer(
    name: ChainID,
    parent: ChainID | undefined,
    { blob, diffID }: ImageLayer,
    report: VertexReport,
    signal: AbortSignal,
  ): Promise<void> {
    if (await this.#exists(name, signal)) {
      return;
    }
    const row = report.row(`extracting ${blob.digest}`);
    const key = `extract-${newId()} ${name}`;
    const labels = { [targetLabel]: name };
    try {
      const mounts = await this.#snapshotter.prepare(key, parent, labels, signal);
      {
        await using directory = await mountTemporarily(mounts, this.#mountDirectory);
        const filled = {
          blobPath: this.#content.path(blob.digest),
          digest: blob.digest,
          sizeBytes: blob.size,
          diffId: diffID,
          directory: directory.path,
          onProgress: ({ readBytes }: Progress) => row.update(readBytes, blob.size),
        };
        await this.#threads.run(() => applyLayer(filled, signal), signal);
      }
      await this.#snapshotter.commit(name, key, labels, undefined, signal);
    } catch (error) {
      await this.#removeKey(key);
      // Somebody else was quicker; what counts is that the layer is there.
      if (!(error instanceof AlreadyExistsError) || !(await this.#exists(name, signal))) {
        throw error;
      }
    }
    row.complete();
  }

  async #exists(name: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#snapshotter.stat(name, signal);
      return true;
    } catch (error) {
      if (error instanceof NotFoundError) {
        return false;
      }
      throw error;
    }
  }

  /** Without the caller's signal: what was begun is removed also when the caller has gone. */
  async #removeKey(key: string): Promise<void> {
    try {
      await this.#snapshotter.remove(key);
    } catch (error) {
      if (!(error instanceof NotFoundError)) {
        throw error;
      }
    }
  }
}

/** Starts `work` for every item, at most `limit` at a time and the first ones first. A failure is the promise's own. */
function startInOrder<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void>[] {
  const promises: Promise<void>[] = [];
  for (const [index, item] of items.entries()) {
    const earlier = promises.slice(0, Math.max(0, index - limit + 1));
    const promise = Promise.allSettled(earlier).then(() => work(item));
    // It is awaited in its turn, which may come after it has failed.
    promise.catch(() => undefined);
    promises.push(promise);
  }
  return promises;
}
