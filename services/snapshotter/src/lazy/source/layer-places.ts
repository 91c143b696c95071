import { NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import type { BlobPlace } from "@oci-worker/registry/blob-place";
import type { RegistryClient } from "@oci-worker/registry/client";
import type { Repository } from "@oci-worker/registry/repository";
import type { SourceClient } from "@oci-worker/sources/source-client";

/** Where a layer can be read, and what the labels say of it. */
export interface LayerPlaces {
  readonly digest: Digest;
  /** Of its table of contents, as far as the labels tell. */
  readonly tocDigest: Digest | undefined;
  /** The image that it belongs to, for people. */
  readonly reference: string;
  readonly places: readonly BlobPlace[];
  /** Those that have it. */
  readonly images: readonly LayerImage[];
}

/** An image that a layer belongs to. */
export interface LayerImage {
  readonly reference: Reference;
  readonly repository: Repository;
}

/** It asks nobody else for that, so it is there or it is not. */
const resolverTimeoutMs = 5000;

/**
 * Asks the resolver where the layer is that a snapshot with `labels` is for.
 *
 * @throws {NotFoundError} if it is nowhere, with what is wrong with the labels.
 * @throws {UnavailableError} if the resolver does not answer within five seconds.
 */
export async function layerPlaces(
  labels: Readonly<Record<string, string>>,
  { sources, registry }: { readonly sources: SourceClient; readonly registry: RegistryClient },
  signal: AbortSignal,
): Promise<LayerPlaces> {
  const silence = AbortSignal.timeout(resolverTimeoutMs);
  const answer = await sources
    .sourcesOf(labels, AbortSignal.any([signal, silence]))
    .catch((error: unknown) => {
      throw silence.aborted && !signal.aborted
        ? new UnavailableError(`Cannot find layer: the resolver has not answered for ${resolverTimeoutMs} ms`)
        : error;
    });
  const [first] = answer.sources;
  if (first === undefined) {
    const reasons = answer.skipped.map(({ label, message }) => `${label}: ${message}`);
    throw new NotFoundError(
      `Cannot find layer: its labels name no image that it can be read from${reasons.map((reason) => `; ${reason}`).join("")}`,
    );
  }
  // Two images with the layer are as good as one; another layer is not.
  const same = answer.sources.filter(({ target }) => target.digest === first.target.digest);
  const images = same.map(({ reference, hosts, repository, authorizer, onOutcome }) => ({
    reference,
    repository: registry.repository({ hosts, repository, authorizer, onOutcome }),
  }));
  return {
    digest: first.target.digest,
    tocDigest: same.find(({ tocDigest }) => tocDigest !== undefined)?.tocDigest,
    reference: formatReference(first.reference),
    places: same.flatMap(
      ({ target }, index) => images[index]?.repository.placesOf(target.digest, target.urls) ?? [],
    ),
    images,
  };
}
