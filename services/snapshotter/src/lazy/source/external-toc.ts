import { DataLossError, NotFoundError, ResourceExhaustedError } from "@oci-worker/errdefs";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { digestOf } from "@oci-worker/oci/digest";
import { type Manifest, parseImageDocument } from "@oci-worker/oci/manifest";
import { candidatesFor, hostPlatform } from "@oci-worker/oci/platform";
import { formatReference } from "@oci-worker/oci/reference";
import type { Repository } from "@oci-worker/registry/repository";
import type { LayerImage, LayerPlaces } from "./layer-places.ts";

/**
 * The tag of an image with this behind it is that of another one, which has the tables of contents of its layers: a layer
 * each (stargz-snapshotter, docs/smaller-estargz.md, and its nativeconverter/estargz/externaltoc).
 */
const tagSuffix = "-esgztoc";

/** On such a layer: the digest of the one that it is about. */
const aboutAnnotation = "containerd.io/snapshot/stargz/layer.digest";

/** Images for so many platforms are looked into. */
const maxManifests = 16;

/**
 * Reads the table of contents of a layer that says of it that it is in another image: the blob as it is there, at most
 * `maxBytes` of it. It is as little to be trusted as what is in the layer.
 *
 * @throws {NotFoundError} if no image that the layer belongs to has one beside it.
 * @throws {DataLossError} if what comes is not what that image promises.
 */
export async function readExternalToc(
  layer: Pick<LayerPlaces, "digest" | "images">,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const reasons: string[] = [];
  for (const image of layer.images) {
    try {
      const toc = await findToc(layer.digest, image, signal);
      return await readBlob(image.repository, toc, maxBytes, signal);
    } catch (error) {
      signal.throwIfAborted();
      reasons.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new NotFoundError(
    `Cannot read table of contents of layer ${layer.digest}, which is in another image: ${reasons.join("; ")}`,
  );
}

async function findToc(
  digest: LayerPlaces["digest"],
  { reference, repository }: LayerImage,
  signal: AbortSignal,
): Promise<Descriptor> {
  if (reference.tag === undefined) {
    throw new NotFoundError(`${formatReference(reference)} has no tag, by which that is named`);
  }
  const tag = `${reference.tag}${tagSuffix}`;
  const descriptor = await repository.resolve({ tag }, signal);
  for await (const manifest of manifestsOf(repository, descriptor, signal)) {
    const toc = manifest.layers.find(({ annotations }) => annotations?.[aboutAnnotation] === digest);
    if (toc !== undefined) {
      return toc;
    }
  }
  throw new NotFoundError(`${repository.name}:${tag} has none for it`);
}

/** Those of an image, with the ones for this machine before those that somebody may have pulled for another. */
async function* manifestsOf(
  repository: Repository,
  descriptor: Descriptor,
  signal: AbortSignal,
): AsyncGenerator<Manifest> {
  const document = parseImageDocument(
    await repository.fetchManifest(descriptor, signal),
    descriptor.mediaType,
  );
  if (document.kind === "manifest") {
    yield document;
    return;
  }
  const { manifests } = document;
  const ordered = new Set([...candidatesFor(hostPlatform, manifests), ...manifests]);
  for (const each of [...ordered].slice(0, maxManifests)) {
    const inner = parseImageDocument(await repository.fetchManifest(each, signal), each.mediaType);
    if (inner.kind === "manifest") {
      yield inner;
    }
  }
}

async function readBlob(
  repository: Repository,
  { digest, size }: Descriptor,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Buffer> {
  if (size > maxBytes) {
    throw new ResourceExhaustedError(`Cannot read TOC: it has ${size} bytes, want at most ${maxBytes}`);
  }
  const bytes = Buffer.concat(await Array.fromAsync(repository.fetchBlob({ digest, size }, signal)));
  const actual = digestOf(bytes);
  if (actual !== digest) {
    throw new DataLossError(`Cannot read TOC: what came has digest ${actual}, want ${digest}`);
  }
  return bytes;
}
