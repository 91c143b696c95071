import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { together } from "@oci-worker/flights/together";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import type { Digest } from "@oci-worker/oci/digest";
import { type ImageConfig, parseImageConfig } from "@oci-worker/oci/image-config";
import { type Index, imageLayers, type Manifest, parseImageDocument } from "@oci-worker/oci/manifest";
import { dockerConfig, ociConfig } from "@oci-worker/oci/media-type";
import { formatPlatform, normalizePlatform, type Platform } from "@oci-worker/oci/platform";
import type { ManifestName } from "@oci-worker/registry/repository";
import { bytesBody } from "@oci-worker/registry/request";
import { type NewDocument, newConfig, newIndex, newManifest } from "./documents.ts";
import {
  type ConvertedLayer,
  LayerConverter,
  type LayerConverterParts,
  shortDigest,
} from "./layer-converter.ts";
import { Priorities, type RecordedFile } from "./record.ts";

/** Layers that are in work at a time. One alone leaves processors idle while it is fetched; each takes room on disk. */
const layersAtOnce = 2;

export interface ImageConverterParts extends LayerConverterParts {
  /** What containers read first; undefined: nobody has recorded it. */
  readonly record: readonly RecordedFile[] | undefined;
  /** Those that are wanted; empty: all that there are. */
  readonly platforms: readonly Platform[];
}

/** An image for one platform, of the new name. */
export interface ConvertedImage {
  readonly platform: string;
  /** Of its manifest before. */
  readonly source: Digest;
  readonly digest: Digest;
  readonly layers: readonly (ConvertedLayer & { readonly source: Digest })[];
  /** Of the record, what no layer has. */
  readonly missing: readonly string[];
}

/** What has become of the whole. */
export interface Conversion {
  readonly descriptor: Descriptor;
  readonly images: readonly ConvertedImage[];
  /** What was decided without being told to. */
  readonly notes: readonly string[];
}

/**
 * BuildKit's mark for what tells of another manifest of the same index how it came about, and the digest of that
 * (docs/attestations/attestation-storage.md).
 */
const referenceType = "vnd.docker.reference.type";
const referenceDigest = "vnd.docker.reference.digest";

/** Turns images into ones with layers that can be read in parts. One for each image: it knows which layers it has had. */
export class ImageConverter {
  readonly #parts: ImageConverterParts;
  readonly #layers: LayerConverter;
  readonly #images: ConvertedImage[] = [];
  readonly #notes: string[] = [];

  constructor(parts: ImageConverterParts) {
    this.#parts = parts;
    this.#layers = new LayerConverter(parts);
  }

  /**
   * Gets the image `name` of the source, converted, into the target as `tag`, which is put there last. The same image and
   * settings give the same digests.
   *
   * @throws naming the layer or manifest at fault.
   */
  async convert(name: ManifestName, tag: string, signal: AbortSignal): Promise<Conversion> {
    const { source, target, steps } = this.#parts;
    const found = await steps.run(
      `resolve ${name.digest ?? name.tag} of ${source.name}`,
      signal,
      async () => {
        const descriptor = await source.resolve(name, signal);
        return { ...(await this.#fetch(descriptor, signal)), descriptor };
      },
    );
    const { document } = found;
    const converted =
      document.kind === "index"
        ? await this.#convertIndex(document, found, signal)
        : await this.#convertSingle(document, found, signal);
    const { bytes, descriptor } = converted;
    await steps.run(`push ${tag} of ${target.name}`, signal, () =>
      target.pushManifest({ mediaType: descriptor.mediaType, bytes, tag }, signal),
    );
    return { descriptor, images: this.#images, notes: this.#notes };
  }

  async #convertSingle(manifest: Manifest, found: NewDocument, signal: AbortSignal): Promise<NewDocument> {
    const { platforms } = this.#parts;
    if (!isImage(manifest)) {
      throw new InvalidArgumentError(
        `Cannot convert manifest ${found.descriptor.digest}: it is no image, but ${manifest.config.mediaType}`,
      );
    }
    const config = await this.#configOf(manifest, signal);
    const platform = formatPlatform(config.platform);
    const unmet = platforms.find((wanted) => formatPlatform(wanted) !== platform);
    if (unmet !== undefined) {
      throw noSuchPlatform(unmet, [platform]);
    }
    return await this.#convertImage(manifest, config, found, signal);
  }

  async #convertIndex(index: Index, found: NewDocument, signal: AbortSignal): Promise<NewDocument> {
    const wanted = wantedOf(index, this.#parts.platforms);
    const becoming = new Map<number, NewDocument>();
    const attestations = new Map<number, Descriptor>();
    for (const [position, entry] of wanted) {
      if (entry.annotations?.[referenceType] === undefined) {
        becoming.set(position, await this.#convertEntry(entry, signal));
      } else {
        attestations.set(position, entry);
      }
    }
    const unchanged = new Set(
      [...becoming].flatMap(([position, { descriptor }]) =>
        descriptor.digest === index.manifests[position]?.digest ? [descriptor.digest] : [],
      ),
    );
    for (const [position, entry] of attestations) {
      const subject = entry.annotations?.[referenceDigest] ?? "";
      if (unchanged.has(subject as Digest)) {
        becoming.set(position, await this.#copy(entry, await this.#fetch(entry, signal), signal));
      } else if ([...wanted.values()].some(({ digest }) => digest === subject)) {
        this.#notes.push(`left out attestation ${entry.digest}: it is about ${subject}, which was converted`);
      }
    }
    for (const { descriptor, bytes } of becoming.values()) {
      await this.#parts.target.pushManifest({ mediaType: descriptor.mediaType, bytes }, signal);
    }
    const isSame = index.manifests.every(
      ({ digest }, position) => becoming.get(position)?.descriptor.digest === digest,
    );
    return isSame
      ? found
      : newIndex(index, new Map([...becoming].map(([position, { descriptor }]) => [position, descriptor])));
  }

  async #convertEntry(entry: Descriptor, signal: AbortSignal): Promise<NewDocument> {
    const found = { ...(await this.#fetch(entry, signal)), descriptor: entry };
    const { document } = found;
    if (document.kind === "index") {
      return await this.#convertIndex(document, found, signal);
    }
    if (!isImage(document)) {
      this.#notes.push(`kept manifest ${entry.digest}: it is no image, but ${document.config.mediaType}`);
      return await this.#copy(entry, found, signal);
    }
    return await this.#convertImage(document, await this.#configOf(document, signal), found, signal);
  }

  async #convertImage(
    manifest: Manifest,
    config: ImageConfig,
    found: NewDocument,
    signal: AbortSignal,
  ): Promise<NewDocument> {
    const source = found.descriptor.digest;
    const platform = formatPlatform(config.platform);
    if (config.platform.os !== "linux") {
      this.#notes.push(`kept image ${source} for ${platform}: only Linux reads layers in parts`);
      return await this.#copy(found.descriptor, { document: manifest, bytes: found.bytes }, signal);
    }
    const { layers, missing } = await this.#convertLayers(manifest, config, source, signal);
    const isSame = layers.every(
      ({ descriptor }, index) => descriptor.digest === manifest.layers[index]?.digest,
    );
    const made = isSame ? found : await this.#withLayers(manifest, config, layers, signal);
    if (isSame) {
      await this.#layers.copy(manifest.config, signal);
    }
    const sources = layers.map((layer, index) => ({
      ...layer,
      source: manifest.layers[index]?.digest ?? layer.descriptor.digest,
    }));
    this.#images.push({ platform, source, digest: made.descriptor.digest, layers: sources, missing });
    return made;
  }

  /** Layers with priorities one after the other from the top: what one has not got may be in one below. */
  async #convertLayers(
    manifest: Manifest,
    config: ImageConfig,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ layers: ConvertedLayer[]; missing: readonly string[] }> {
    const { record } = this.#parts;
    const platform = formatPlatform(config.platform);
    const layers = imageLayers(manifest, config).map((layer, index, { length }) => ({
      layer,
      index,
      title: `layer ${index + 1} of ${length} for ${platform}: ${shortDigest(layer.blob.digest)}`,
    }));
    if (record === undefined) {
      const work = ({ layer, title }: (typeof layers)[number], ends: AbortSignal) =>
        this.#layers.convert(layer, title, undefined, ends);
      return { layers: await together(layers, layersAtOnce, work, signal), missing: [] };
    }
    const priorities = new Priorities(record, digest, layers.length);
    const converted: ConvertedLayer[] = [];
    for (const { layer, index, title } of layers.toReversed()) {
      const made = await this.#layers.convert(layer, title, priorities.for(index), signal);
      priorities.asked(index, made.missing);
      converted.unshift(made);
    }
    return { layers: converted, missing: priorities.missing };
  }

  async #withLayers(
    manifest: Manifest,
    config: ImageConfig,
    layers: readonly ConvertedLayer[],
    signal: AbortSignal,
  ): Promise<NewDocument> {
    const { descriptor, bytes } = newConfig(
      config,
      layers.map(({ diffID }) => diffID),
    );
    await this.#parts.target.pushBlob({ digest: descriptor.digest, body: bytesBody(bytes) }, signal);
    return newManifest(
      manifest,
      descriptor,
      layers.map((layer) => layer.descriptor),
    );
  }

  /** Gets all that is in a manifest or index into the target as it is. */
  async #copy(
    descriptor: Descriptor,
    { document, bytes }: Fetched,
    signal: AbortSignal,
  ): Promise<NewDocument> {
    if (document.kind === "index") {
      throw new InvalidArgumentError(
        `Cannot copy manifest ${descriptor.digest}: it is an index, want a manifest`,
      );
    }
    for (const blob of [document.config, ...document.layers]) {
      if ((blob.urls ?? []).length === 0) {
        await this.#layers.copy(blob, signal);
      }
    }
    return { descriptor, bytes };
  }

  async #fetch(descriptor: Descriptor, signal: AbortSignal): Promise<Fetched> {
    const bytes = await this.#parts.source.fetchManifest(descriptor, signal);
    return { bytes, document: parseImageDocument(bytes, descriptor.mediaType) };
  }

  async #configOf({ config }: Manifest, signal: AbortSignal): Promise<ImageConfig> {
    return parseImageConfig(await this.#parts.source.fetchDocument(config, signal));
  }
}

interface Fetched {
  readonly document: Manifest | Index;
  readonly bytes: Buffer;
}

/** Artifacts of other kinds use manifests, too. */
function isImage({ config }: Manifest): boolean {
  return config.mediaType === ociConfig || config.mediaType === dockerConfig;
}

/** The entries of `index` that are wanted, by their positions: what is for other platforms is not. */
function wantedOf({ manifests }: Index, platforms: readonly Platform[]): Map<number, Descriptor> {
  const entries = [...manifests.entries()];
  if (platforms.length === 0) {
    return new Map(entries);
  }
  const wanted = new Set(platforms.map(formatPlatform));
  const nameOf = ({ platform }: Descriptor) =>
    platform === undefined ? "" : formatPlatform(normalizePlatform(platform));
  const chosen = entries.filter(([, entry]) => wanted.has(nameOf(entry)));
  const there = manifests
    .filter(
      ({ annotations, platform }) => annotations?.[referenceType] === undefined && platform !== undefined,
    )
    .map(nameOf);
  const unmet = platforms.find((platform) => !there.includes(formatPlatform(platform)));
  if (unmet !== undefined) {
    throw noSuchPlatform(unmet, there);
  }
  const digests = new Set<string>(chosen.map(([, { digest }]) => digest));
  const about = entries.filter(([, { annotations }]) => digests.has(annotations?.[referenceDigest] ?? ""));
  return new Map([...chosen, ...about].sort(([one], [other]) => one - other));
}

function noSuchPlatform(unmet: Platform, there: readonly string[]): NotFoundError {
  return new NotFoundError(
    `Cannot convert image for ${formatPlatform(unmet)}: there is none, want ${there.join(" or ")}`,
  );
}
