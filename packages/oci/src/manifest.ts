import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { DiffID } from "./chain-id.ts";
import { type Descriptor, parseDescriptor } from "./descriptor.ts";
import { Fields, type JsonObject, parseDocument } from "./document.ts";
import type { ImageConfig } from "./image-config.ts";
import { isIndex, isManifest } from "./media-type.ts";

/** One image for one platform (OCI image-spec, manifest.md; Docker "schema 2"). */
export interface Manifest {
  readonly kind: "manifest";
  readonly mediaType: string;
  readonly config: Descriptor;
  /** From the base upwards. */
  readonly layers: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
  /** The whole document, fields that we do not know included. */
  readonly document: JsonObject;
}

/** Images for several platforms under one name (OCI image-spec, image-index.md; Docker "manifest list"). */
export interface Index {
  readonly kind: "index";
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly annotations: Readonly<Record<string, string>>;
  /** The whole document, fields that we do not know included. */
  readonly document: JsonObject;
}

/** A layer of an image: the blob, and what it must be once it is uncompressed. */
export interface ImageLayer {
  readonly blob: Descriptor;
  readonly diffID: DiffID;
}

/**
 * Reads a manifest or an index, as `mediaType` says.
 *
 * A document that could pass for both is refused: whoever signs or scans it might have read the other one
 * (GHSA-5j5w-g665-5m35).
 *
 * @throws {InvalidArgumentError} if it is neither, or naming the field at fault.
 */
export function parseImageDocument(bytes: Uint8Array, mediaType: string): Manifest | Index {
  if (isIndex(mediaType)) {
    return parseIndex(bytes, mediaType);
  }
  if (isManifest(mediaType)) {
    return parseManifest(bytes, mediaType);
  }
  throw new InvalidArgumentError(
    `Cannot read image: its media type is ${JSON.stringify(mediaType.slice(0, 200))}, want a manifest or index of OCI or Docker schema 2`,
  );
}

/**
 * The layers of an image, each with its DiffID.
 *
 * @throws {InvalidArgumentError} if manifest and config do not name equally many.
 */
export function imageLayers(manifest: Manifest, config: ImageConfig): ImageLayer[] {
  const { layers } = manifest;
  if (layers.length !== config.diffIDs.length) {
    throw new InvalidArgumentError(
      `Cannot use image with config ${manifest.config.digest}: its manifest has ${layers.length} layers and its config ${config.diffIDs.length} diff_ids, want as many`,
    );
  }
  return config.diffIDs.flatMap((diffID, index) => {
    const blob = layers[index];
    return blob === undefined ? [] : [{ blob, diffID }];
  });
}

function parseManifest(bytes: Uint8Array, mediaType: string): Manifest {
  const document = parseDocument("manifest", bytes);
  const fields = new Fields("manifest", document);
  checkKind(fields, mediaType, "manifests");
  return {
    kind: "manifest",
    mediaType,
    config: parseDescriptor(fields.requiredObject("config")),
    layers: (fields.objects("layers") ?? []).map(parseDescriptor),
    annotations: fields.textMap("annotations") ?? {},
    document,
  };
}

function parseIndex(bytes: Uint8Array, mediaType: string): Index {
  const document = parseDocument("index", bytes);
  const fields = new Fields("index", document);
  checkKind(fields, mediaType, "layers", "config");
  return {
    kind: "index",
    mediaType,
    manifests: (fields.objects("manifests") ?? []).map(parseDescriptor),
    annotations: fields.textMap("annotations") ?? {},
    document,
  };
}

/** Refuses a document that says it is something else, or has fields that only something else has. */
function checkKind(fields: Fields, mediaType: string, ...foreign: readonly string[]): void {
  const version = fields.size("schemaVersion");
  if (version !== 2) {
    throw fields.error("schemaVersion", `it is ${version}, want 2`);
  }
  const own = fields.text("mediaType");
  if (own !== undefined && own !== mediaType) {
    throw fields.error("mediaType", `it is ${JSON.stringify(own.slice(0, 200))}, want ${mediaType}`);
  }
  for (const key of [...foreign, "fsLayers"]) {
    if (fields.has(key)) {
      throw fields.error(key, `a document of type ${mediaType} has no such field`);
    }
  }
}
