import { availableParallelism } from "node:os";
import { InexpressibleError } from "@oci-worker/estargz/inexpressible";
import { Flights } from "@oci-worker/flights";
import { together } from "@oci-worker/flights/together";
import { upperDirectoryOver } from "@oci-worker/mounts/upper-directory";
import type { StoredRecord } from "../cache/record.ts";
import type { CacheRecords } from "../cache/records.ts";
import type { ContentStore } from "../content/store.ts";
import type { ImageStore, PullContext } from "../image/image-store.ts";
import type { UnpackContext } from "../image/unpack.ts";
import type { RefStore } from "../refs/ref-store.ts";
import { Slots } from "../slots.ts";
import type { Ref } from "../solver/operation.ts";
import { hasFormat, type LayerBlob, type LayerFormat, type LayerPacking, ociTypes } from "./layer-blob.ts";
import type { LayerBlobTable } from "./layer-blob-table.ts";
import type { LayerSource } from "./layer-messages.ts";
import { makeLayer } from "./make-layer.ts";

/** A layer of a result, its blob in the content store. */
export interface ResultLayer extends LayerBlob {
  /** What it was made for, for people. */
  readonly description: string;
  readonly createdAtMs: number;
}

export interface LayerStoreParts {
  readonly refs: RefStore;
  readonly records: CacheRecords;
  readonly content: ContentStore;
  readonly images: ImageStore;
  readonly table: LayerBlobTable;
  /** Where there is room for a layer, uncompressed. */
  readonly directory: string;
}

/** For whom layers are made; the lease keeps their blobs until somebody else does. */
export type LayerContext = PullContext & UnpackContext;

/** The stream of a vertex's log on which it says what people should know. */
const stderr = 2;

/**
 * Results as layers of images.
 *
 * A blob that was made or pulled is kept as long as the record of its snapshot, and used again: nothing is made twice.
 */
export class LayerStore {
  readonly #parts: LayerStoreParts;
  readonly #making = new Flights<LayerBlob>();
  readonly #slots = new Slots(availableParallelism());

  constructor(parts: LayerStoreParts) {
    this.#parts = parts;
  }

  /**
   * The layers of `ref` from the base upwards.
   *
   * @throws {NotFoundError} if it is not in the cache any more, or a layer that is not here can be had nowhere.
   */
  async layersOf(ref: Ref, packing: LayerPacking, context: LayerContext): Promise<ResultLayer[]> {
    if (ref.snapshot === undefined) {
      return [];
    }
    const lineage = this.#parts.records.lineage(ref.snapshot);
    const layer = async (record: StoredRecord, signal: AbortSignal): Promise<ResultLayer> => {
      const blob = await this.#blobOf(record, packing, { ...context, signal });
      return { ...blob, description: record.description, createdAtMs: record.createdAtMs };
    };
    return await together(lineage, lineage.length, layer, context.signal);
  }

  async #blobOf(record: StoredRecord, packing: LayerPacking, context: LayerContext): Promise<LayerBlob> {
    const found = await this.#find(record.id, packing, context);
    if (found !== undefined) {
      return found;
    }
    const { format } = packing;
    const blob = await this.#making.join(
      `${record.id} ${format}`,
      (signal) => this.#slots.run(() => this.#make(record, packing, { ...context, signal }), signal),
      context.signal,
    );
    context.lease.holdBlob(blob.descriptor.digest);
    return blob;
  }

  /** A blob of `record` that is as wanted and here, fetched if it has to be. */
  async #find(
    record: string,
    { format, isForced }: LayerPacking,
    context: LayerContext,
  ): Promise<LayerBlob | undefined> {
    const usable = this.#parts.table.of(record).filter((blob) => !isForced || hasFormat(blob, format));
    return await this.#firstHere(record, byPreference(usable, format), context);
  }

  /** The first of `blobs` that is in the content store; if none is, the first that comes from a registry is fetched. */
  async #firstHere(
    record: string,
    blobs: readonly LayerBlob[],
    context: LayerContext,
  ): Promise<LayerBlob | undefined> {
    for (const blob of blobs) {
      context.lease.holdBlob(blob.descriptor.digest);
      if ((await this.#parts.content.info(blob.descriptor.digest)) !== undefined) {
        return blob;
      }
    }
    for (const blob of blobs) {
      if (blob.reference !== undefined) {
        await this.#parts.images.fetchLayer(blob.reference, blob.descriptor, context);
        this.#parts.records.addBlobs(record, [blob.descriptor.digest]);
        return blob;
      }
    }
    return undefined;
  }

  /** Makes the blob, of another one if there is one: what comes from a registry need not be mounted then. */
  async #make(record: StoredRecord, packing: LayerPacking, context: LayerContext): Promise<LayerBlob> {
    const { table, content, refs } = this.#parts;
    const known = await this.#firstHere(record.id, byPreference(table.of(record.id), "gzip"), context);
    if (known !== undefined) {
      const { descriptor, diffID } = known;
      const source = { path: content.path(descriptor.digest), sizeBytes: descriptor.size, diffID };
      return await this.#pack(record, { kind: "blob", ...source }, packing, context);
    }
    const [parent] = record.parents;
    await using lower =
      parent === undefined ? undefined : await refs.mount({ snapshot: parent }, context.signal);
    await using upper = await refs.mount({ snapshot: record.id }, context.signal);
    const touched = lower && upperDirectoryOver(lower.mounts, upper.mounts);
    const trees = { lower: lower?.path, upper: upper.path, touched };
    return await this.#pack(record, { kind: "trees", trees }, packing, context);
  }

  async #pack(
    record: StoredRecord,
    source: LayerSource,
    packing: LayerPacking,
    context: LayerContext,
  ): Promise<LayerBlob> {
    const { table, records } = this.#parts;
    const blob = await this.#writeAsFarAsPossible(record, source, packing, context);
    table.put(record.id, blob);
    records.addBlobs(record.id, [blob.descriptor.digest]);
    return blob;
  }

  /** A layer that eStargz cannot express is handed out as gzip, and is asked about no more. */
  async #writeAsFarAsPossible(
    record: StoredRecord,
    source: LayerSource,
    packing: LayerPacking,
    context: LayerContext,
  ): Promise<LayerBlob> {
    try {
      return await this.#write(record, source, packing, context);
    } catch (error) {
      if (!(error instanceof InexpressibleError)) {
        throw error;
      }
      const text = `layer of ${JSON.stringify(record.description)} will not be read in parts: ${error.obstacle}\n`;
      context.report.log(stderr, Buffer.from(text));
      return {
        ...(await this.#write(record, source, { ...packing, format: "gzip" }, context)),
        format: "estargz",
      };
    }
  }

  async #write(
    record: StoredRecord,
    source: LayerSource,
    { format, level }: LayerPacking,
    { lease, report, signal }: LayerContext,
  ): Promise<LayerBlob> {
    const { content, directory } = this.#parts;
    const row = report.row(`layer ${record.id} ${format}`, `making layer: ${record.description}`);
    const { digest, sizeBytes, diffID, annotations } = await content.create(async (file) => {
      const task = { source, format, level, targetFd: file.fd, directory };
      const layer = await makeLayer(task, ({ writtenBytes }) => row.update(writtenBytes, 0), signal);
      lease.holdBlob(layer.digest);
      return layer;
    });
    row.update(sizeBytes, sizeBytes);
    row.complete();
    const descriptor = { mediaType: ociTypes[format], digest, size: sizeBytes, annotations };
    return { format, descriptor, diffID, reference: undefined };
  }
}

/** Those of the very format first, then what came with an image; last eStargz, which has a file more than it needs here. */
function byPreference(blobs: readonly LayerBlob[], format: LayerFormat): LayerBlob[] {
  const rank = (blob: LayerBlob) =>
    blob.format === format ? 0 : blob.format === "estargz" ? 3 : blob.reference === undefined ? 2 : 1;
  return blobs.toSorted((one, other) => rank(one) - rank(other));
}
