import { type Digest, parseDigest } from "./digest.ts";
import type { Fields } from "./document.ts";
import type { Platform } from "./platform.ts";

/** What a blob is and how to know it when one sees it (OCI image-spec, descriptor.md). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  /** Other places where the blob can be had, besides the registry. */
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  /** In an index: what the image runs on, as it is written there, not normalised. */
  readonly platform?: Platform;
  /** Type of an artifact that is no image. */
  readonly artifactType?: string;
}

/**
 * Reads a descriptor out of a manifest or index.
 *
 * @throws {InvalidArgumentError} naming the field at fault.
 */
export function parseDescriptor(fields: Fields): Descriptor {
  const urls = fields.texts("urls");
  const annotations = fields.textMap("annotations");
  const platform = fields.object("platform");
  const artifactType = fields.text("artifactType");
  return {
    mediaType: fields.requiredText("mediaType"),
    digest: fields.parsed("digest", parseDigest),
    size: fields.size("size"),
    ...(urls && { urls }),
    ...(annotations && { annotations }),
    ...(platform && { platform: parsePlatformObject(platform) }),
    ...(artifactType && { artifactType }),
  };
}

function parsePlatformObject(fields: Fields): Platform {
  const variant = fields.text("variant");
  const osVersion = fields.text("os.version");
  return {
    os: fields.text("os") ?? "",
    architecture: fields.text("architecture") ?? "",
    ...(variant && { variant }),
    ...(osVersion && { osVersion }),
  };
}
