import { InvalidArgumentError, UnimplementedError } from "@oci-worker/errdefs";
import { formatReference, parseReference } from "@oci-worker/oci/reference";
import type { ResultMetadata } from "../builds/exporter.ts";
import { type LayerFormat, type LayerPacking, layerFormats } from "../layers/layer-blob.ts";
import { type Annotation, takeAnnotations } from "./annotations.ts";
import type { Attributes } from "./attributes.ts";

/** How an image is to be made of a result: what all exporters of images take (BuildKit, exporter/containerimage/opts.go). */
export interface ImageOptions {
  /** Several with commas between them; `*` for the one that the client's metadata has. */
  readonly name: string | undefined;
  readonly packing: LayerPacking;
  /** Media types of OCI, else those of Docker, which have no annotations. */
  readonly hasOciTypes: boolean;
  readonly annotations: readonly Annotation[];
  /** Nothing in config and history is younger; in seconds since 1970. */
  readonly epochSeconds: number | undefined;
  /** What the client says beside. It is stronger than what comes with the result. */
  readonly metadata: ResultMetadata;
}

/** Levels of the compressors (node:zlib; zstd.h, ZSTD_maxCLevel). */
const levels: Readonly<Record<LayerFormat, readonly [lowest: number, highest: number]>> = {
  uncompressed: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
  gzip: [-1, 9],
  estargz: [-1, 9],
  zstd: [1, 22],
};

/**
 * Reads what is common to all exporters of images, and takes the rest for metadata, as upstream does.
 *
 * @param hasOciTypes whether media types are OCI's if the client does not say.
 * @throws {InvalidArgumentError} naming the attribute at fault.
 */
export function takeImageOptions(attributes: Attributes, hasOciTypes: boolean): ImageOptions {
  const name = attributes.text("name") || undefined;
  const format = takeFormat(attributes);
  const level = takeLevel(attributes, format);
  const isForced = attributes.flag("force-compression", false);
  const ociTypes = attributes.flag("oci-mediatypes", hasOciTypes);
  const epochSeconds = attributes.integer("source-date-epoch");
  refuse(attributes, "prefer-nondist-layers");
  refuse(attributes, "rewrite-timestamp");
  // Of builds by frontends, of which we have none; BuildKit has dropped the first two.
  for (const known of ["buildinfo", "buildinfo-attrs", "attestation-inline"]) {
    attributes.flag(known, false);
  }
  const { annotations, rest } = takeAnnotations(attributes.rest());
  const needsOciTypes =
    format === "estargz" || format === "zstd" || annotations.some(({ on }) => on === "manifest-descriptor");
  return {
    name,
    // Layers that nobody can read in parts are not what is meant.
    packing: { format, level, isForced: isForced || format === "estargz" },
    hasOciTypes: ociTypes || needsOciTypes,
    annotations,
    epochSeconds,
    metadata: Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, Buffer.from(value)])),
  };
}

/** The names of an image as they were given, with commas between them; empty for none. */
export function givenName({ name }: Pick<ImageOptions, "name">, metadata: ResultMetadata): string {
  return name === "*" ? Buffer.from(metadata["image.name"] ?? "*").toString() : (name ?? "");
}

/**
 * The full names of an image.
 *
 * @throws {InvalidArgumentError} if one is no name.
 */
export function imageNames(options: Pick<ImageOptions, "name">, metadata: ResultMetadata): string[] {
  const given = givenName(options, metadata);
  return given === "" ? [] : given.split(",").map((each) => formatReference(parseReference(each)));
}

function takeFormat(attributes: Attributes): LayerFormat {
  const text = attributes.text("compression");
  const format = layerFormats.find((each) => each === (text ?? "gzip"));
  if (format === undefined) {
    throw new InvalidArgumentError(
      `unsupported compression type ${JSON.stringify(text?.slice(0, 100))}, want ${layerFormats.join(", ")}`,
    );
  }
  return format;
}

function takeLevel(attributes: Attributes, format: LayerFormat): number | undefined {
  const level = attributes.integer("compression-level");
  const [lowest, highest] = levels[format];
  if (level !== undefined && (level < lowest || level > highest)) {
    throw new InvalidArgumentError(
      `Cannot export with compression-level ${level}: want ${lowest} to ${highest} for ${format}`,
    );
  }
  return level;
}

/** What is not there is refused rather than ignored: the image would not be what was asked for. */
function refuse(attributes: Attributes, name: string): void {
  if (attributes.flag(name, false)) {
    throw new UnimplementedError(
      `Cannot export with ${name}: this worker does not have that, want it absent or false`,
    );
  }
}
