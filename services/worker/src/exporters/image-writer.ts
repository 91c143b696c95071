import type { Descriptor } from "@oci-worker/oci/descriptor";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import { dockerConfig, dockerManifest, ociConfig, ociManifest } from "@oci-worker/oci/media-type";
import type { Platform } from "@oci-worker/oci/platform";
import { parseReference, type Reference } from "@oci-worker/oci/reference";
import type { ExportContext } from "../builds/exporter.ts";
import type { ContentStore } from "../content/store.ts";
import { dockerTypes, ociTypes } from "../layers/layer-blob.ts";
import type { LayerStore, ResultLayer } from "../layers/layer-store.ts";
import type { Ref } from "../solver/operation.ts";
import { annotationsFor } from "./annotations.ts";
import { imageConfig } from "./image-config.ts";
import { type ImageOptions, imageNames } from "./image-options.ts";

/** An image whose every blob is in the content store. */
export interface WrittenImage {
  /** Of the manifest, with platform and annotations, as a layout lists it. */
  readonly descriptor: Descriptor;
  readonly manifest: Buffer;
  readonly config: Descriptor;
  /** From the base upwards, as the manifest has them. */
  readonly layers: readonly Descriptor[];
  /** An image of a registry for each layer that came with one. */
  readonly origins: ReadonlyMap<Digest, Reference>;
  /** Full ones. */
  readonly names: readonly string[];
}

export interface ImageWriterParts {
  readonly layers: LayerStore;
  readonly content: ContentStore;
  /** Of the worker. */
  readonly platform: Platform;
}

/** On a layer's descriptor, in some registries: what it is uncompressed, and where it was found. For them alone. */
const internalAnnotation = /^(containerd\.io\/(uncompressed$|distribution\.source\.)|buildkit\/createdat$)/;

/** Makes images of results. */
export class ImageWriter {
  readonly #parts: ImageWriterParts;

  constructor(parts: ImageWriterParts) {
    this.#parts = parts;
  }

  /**
   * Makes an image of `result`: its layers, a config and a manifest, all in the content store, where the lease keeps them.
   *
   * @throws {InvalidArgumentError} if the client's config or a name is no such thing.
   */
  async write(result: Ref, options: ImageOptions, context: ExportContext): Promise<WrittenImage> {
    const metadata = { ...context.metadata, ...options.metadata };
    const names = imageNames(options, metadata);
    const row = context.report.row("exporting layers");
    const layers = await this.#parts.layers.layersOf(result, options.packing, context);
    row.complete();
    const { bytes, platform } = imageConfig(metadata, layers, this.#parts.platform, options.epochSeconds);
    const types = options.hasOciTypes
      ? { manifest: ociManifest, config: ociConfig }
      : { manifest: dockerManifest, config: dockerConfig };
    const config = { mediaType: types.config, digest: digestOf(bytes), size: bytes.length };
    const descriptors = layers.map((layer) => layerDescriptor(layer, options.hasOciTypes));
    const annotations = annotationsFor(options.annotations, "manifest", platform);
    const document = {
      schemaVersion: 2,
      mediaType: types.manifest,
      config,
      layers: descriptors,
      ...(Object.keys(annotations).length > 0 && { annotations }),
    };
    const manifest = Buffer.from(JSON.stringify(document, undefined, 2));
    const digest = digestOf(manifest);
    await this.#store(`exporting manifest ${digest}`, digest, manifest, context);
    await this.#store(`exporting config ${config.digest}`, config.digest, bytes, context);
    const onDescriptor = annotationsFor(options.annotations, "manifest-descriptor", platform);
    return {
      descriptor: {
        mediaType: types.manifest,
        digest,
        size: manifest.length,
        ...(Object.keys(onDescriptor).length > 0 && { annotations: onDescriptor }),
        platform,
      },
      manifest,
      config,
      layers: descriptors,
      origins: originsOf(layers),
      names,
    };
  }

  async #store(what: string, digest: Digest, bytes: Buffer, { lease, report, signal }: ExportContext) {
    const row = report.row(what);
    lease.holdBlob(digest);
    await this.#parts.content.writeBytes(digest, bytes, signal);
    row.complete();
  }
}

/** What clients are told of an image that was made for them, by upstream's keys. */
export function imageResponse({ descriptor, config, names }: WrittenImage): Record<string, string> {
  return {
    "containerimage.digest": descriptor.digest,
    "containerimage.config.digest": config.digest,
    "containerimage.descriptor": Buffer.from(JSON.stringify(descriptor)).toString("base64"),
    ...(names.length > 0 && { "image.name": names.join(",") }),
  };
}

function originsOf(layers: readonly ResultLayer[]): Map<Digest, Reference> {
  return new Map(
    layers.flatMap(({ descriptor, reference }): [Digest, Reference][] =>
      reference === undefined ? [] : [[descriptor.digest, parseReference(reference)]],
    ),
  );
}

function layerDescriptor({ format, descriptor }: ResultLayer, hasOciTypes: boolean): Descriptor {
  const { digest, size } = descriptor;
  const mediaType = (hasOciTypes ? ociTypes : dockerTypes)[format];
  const kept = Object.entries(descriptor.annotations ?? {}).filter(
    ([name]) => !internalAnnotation.test(name),
  );
  const hasAnnotations = hasOciTypes && kept.length > 0;
  return { mediaType, digest, size, ...(hasAnnotations && { annotations: Object.fromEntries(kept) }) };
}
