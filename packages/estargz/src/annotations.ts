import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Digest, parseDigest } from "@oci-worker/oci/digest";

/** On a layer's descriptor: the digest of its TOC, the JSON (stargz-snapshotter, docs/estargz.md, "Content Verification"). */
export const tocDigestAnnotation = "containerd.io/snapshot/stargz/toc.digest";

/** On a layer's descriptor: how many bytes it is decompressed. Only stores of podman read it. */
export const uncompressedSizeAnnotation = "io.containers.estargz.uncompressed-size";

/** On a layer of zstd:chunked: the digest of its TOC, compressed, and "offset:compressed size:size:1". */
export const manifestChecksumAnnotation = "io.containers.zstd-chunked.manifest-checksum";
export const manifestPositionAnnotation = "io.containers.zstd-chunked.manifest-position";

/** The same, as podman has been writing it since its zstd:chunked has a tar-split. */
const podmanChecksumAnnotation = "io.github.containers.zstd-chunked.manifest-checksum";

const tocAnnotation =
  /^(?:containerd\.io\/snapshot\/stargz\/|io\.containers\.(?:estargz|zstd-chunked)\.|io\.github\.containers\.zstd-chunked\.)/;

/**
 * Whether an annotation tells something of the TOC of a layer, and so is wrong of another layer. One with those of several
 * makers is refused by podman.
 */
export function isTocAnnotation(name: string): boolean {
  return tocAnnotation.test(name);
}

/** What a TOC is checked against: the digest of its JSON, or of that as it is compressed in the blob. */
export type TocDigest = {
  readonly of: "JSON" | "compressed JSON";
  readonly digest: Digest;
};

/**
 * The digest of a layer's TOC, from the annotations of its descriptor in a manifest that has been verified.
 *
 * @returns undefined if they tell none, so that nothing read out of the layer by itself can be trusted.
 * @throws {InvalidArgumentError} if one is not a digest.
 */
export function tocDigestOf(annotations: Readonly<Record<string, string>>): TocDigest | undefined {
  for (const [name, of] of [
    [tocDigestAnnotation, "JSON"],
    [podmanChecksumAnnotation, "compressed JSON"],
    [manifestChecksumAnnotation, "compressed JSON"],
  ] as const) {
    const text = annotations[name];
    if (text !== undefined && text !== "") {
      return { of, digest: checkedDigest(name, text) };
    }
  }
  return undefined;
}

function checkedDigest(name: string, text: string): Digest {
  try {
    return parseDigest(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new InvalidArgumentError(`Cannot read annotation ${name}: ${why}`, { cause });
  }
}
