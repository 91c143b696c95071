import { DataLossError } from "@oci-worker/errdefs";
import type { TocDigest } from "@oci-worker/estargz/annotations";
import { type Digest, hexOf, isDigest } from "@oci-worker/oci/digest";

/** What is kept of a layer beside its image and its data: `info.json`. It holds no secret. */
export interface LayerInfo {
  readonly version: 1;
  /** Its file in the FUSE mount has that name: it must never change, and never be another layer's. */
  readonly number: number;
  readonly digest: Digest;
  /** Of the JSON that all of this was made from. */
  readonly tocDigest: Digest;
  /** What that was checked against; absent if nothing was there to check it against. */
  readonly trusted?: TocDigest;
  /** The image that it was first read from, for people. */
  readonly reference: string;
  /** What the resolver needs to find it again. */
  readonly labels: Readonly<Record<string, string>>;
  readonly blobBytes: number;
  /** Of `meta.erofs`. */
  readonly metaDigest: Digest;
  /** Its data file is mounted as it is. */
  readonly isDevice: boolean;
}

/**
 * BuildKit's copies for one build, with an id behind them: they are others each time. Sessions end with it, and their ids
 * are for nobody else's eyes.
 */
const buildLabel = /\/stargz\.(reference|digest|layers|session)\./;

const layerLabel = /^containerd\.io\/snapshot\//;

/** Those of `labels` that say where a layer is, for later. */
export function lastingLabels(labels: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(labels).filter(([key]) => layerLabel.test(key) && !buildLabel.test(key)),
  );
}

/** Name of a layer's directory. */
export function directoryName({ digest, tocDigest }: Pick<LayerInfo, "digest" | "tocDigest">): string {
  return `${hexOf(digest)}-${hexOf(tocDigest)}`;
}

/** @throws {DataLossError} if it is not what we write. */
export function parseInfo(text: string): LayerInfo {
  let info: Partial<LayerInfo>;
  try {
    info = JSON.parse(text) as Partial<LayerInfo>;
  } catch (cause) {
    throw new DataLossError("Cannot read info.json: it is no JSON", { cause });
  }
  const digests = [info.digest, info.tocDigest, info.metaDigest];
  const isRight =
    info.version === 1 &&
    Number.isSafeInteger(info.number) &&
    digests.every((digest) => typeof digest === "string" && isDigest(digest)) &&
    typeof info.labels === "object" &&
    typeof info.blobBytes === "number" &&
    typeof info.isDevice === "boolean";
  if (!isRight) {
    throw new DataLossError("Cannot read info.json: something is missing from it");
  }
  return info as LayerInfo;
}
