import { NotFoundError } from "@oci-worker/errdefs";
import { type ChainID, chainIDs } from "@oci-worker/oci/chain-id";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import type { Digest } from "@oci-worker/oci/digest";
import { maxDocumentBytes } from "@oci-worker/oci/document";
import { type ImageConfig, parseImageConfig } from "@oci-worker/oci/image-config";
import { type ImageLayer, imageLayers, type Manifest, parseImageDocument } from "@oci-worker/oci/manifest";
import { candidatesFor, formatPlatform, type Platform, platformMatches } from "@oci-worker/oci/platform";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import type { Repository } from "@oci-worker/registry/repository";
import type { Lease } from "../cache/lease.ts";
import type { ContentStore } from "../content/store.ts";

/** An image for one platform: what it consists of, none of it fetched but its manifest and its config. */
export interface Image {
  /** Of what the reference stands for: a manifest, or an index of several platforms. */
  readonly digest: Digest;
  readonly manifestDigest: Digest;
  readonly config: ImageConfig;
  readonly configBytes: Buffer;
  /** Manifests and config, which are kept as long as the image's root file system is. */
  readonly documents: readonly Digest[];
  readonly layers: readonly ImageLayer[];
  /** Of each layer with those beneath it; the last one names the whole root file system. */
  readonly chain: readonly ChainID[];
}

/** How deep an index may lie in another. One level is usual, more is nonsense. */
const maxIndexDepth = 4;

/**
 * Finds out what `reference` stands for on `platform`.
 *
 * Documents that are in `content` are not fetched again; a reference by digest then needs no registry at all.
 *
 * @param lease holds those documents.
 *
 * @throws {NotFoundError} if the registry does not have it, or has it for other platforms only.
 * @throws {InvalidArgumentError} if it is no image that makes sense.
 */
export async function resolveImage(
  reference: Reference,
  platform: Platform,
  repository: Repository,
  content: ContentStore,
  lease: Lease,
  signal: AbortSignal,
): Promise<Image> {
  const documents = new Documents(repository, content, lease, signal);
  const { digest, tag = "latest" } = reference;
  const target = await repository.resolve(digest === undefined ? { tag } : { digest }, signal);
  const found = await findManifest(target, platform, documents, 0);
  if (found === undefined) {
    throw new NotFoundError(
      `Cannot use ${formatReference(reference)}: it has no image for platform ${formatPlatform(platform)}`,
    );
  }
  const { manifest, descriptor } = found;
  const configBytes = await documents.config(manifest.config);
  const config = parseImageConfig(configBytes);
  const layers = imageLayers(manifest, config);
  return {
    digest: target.digest,
    manifestDigest: descriptor.digest,
    config,
    configBytes,
    documents: [...documents.read],
    layers,
    chain: chainIDs(layers.map(({ diffID }) => diffID)),
  };
}

interface FoundManifest {
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
}

/** The manifest for `platform` at or beneath `descriptor`: of those that fit, the best. */
async function findManifest(
  descriptor: Descriptor,
  platform: Platform,
  documents: Documents,
  depth: number,
): Promise<FoundManifest | undefined> {
  const document = parseImageDocument(await documents.manifest(descriptor), descriptor.mediaType);
  if (document.kind === "manifest") {
    return { descriptor, manifest: document };
  }
  if (depth === maxIndexDepth) {
    return undefined;
  }
  for (const candidate of candidatesFor(platform, document.manifests)) {
    const found = await findManifest(candidate, platform, documents, depth + 1);
    if (found !== undefined && (await fits(found, candidate, platform, documents))) {
      return found;
    }
  }
  return undefined;
}

/** An entry that does not say what it runs on is asked through its config. */
async function fits(
  { manifest }: FoundManifest,
  candidate: Descriptor,
  platform: Platform,
  documents: Documents,
): Promise<boolean> {
  if (candidate.platform !== undefined) {
    return true;
  }
  return platformMatches(platform, parseImageConfig(await documents.config(manifest.config)).platform);
}

/** Manifests and configs, from the content store or else from the registry and kept then. */
class Documents {
  readonly #repository: Repository;
  readonly #content: ContentStore;
  readonly #lease: Lease;
  readonly #signal: AbortSignal;
  /** Those that have been asked for. */
  readonly read = new Set<Digest>();

  constructor(repository: Repository, content: ContentStore, lease: Lease, signal: AbortSignal) {
    this.#repository = repository;
    this.#content = content;
    this.#lease = lease;
    this.#signal = signal;
  }

  manifest(descriptor: Descriptor): Promise<Buffer> {
    return this.#get(descriptor, () => this.#repository.fetchManifest(descriptor, this.#signal));
  }

  config(descriptor: Descriptor): Promise<Buffer> {
    return this.#get(descriptor, () => this.#repository.fetchDocument(descriptor, this.#signal));
  }

  async #get({ digest }: Descriptor, fetch: () => Promise<Buffer>): Promise<Buffer> {
    this.#lease.holdBlob(digest);
    this.read.add(digest);
    if ((await this.#content.info(digest)) === undefined) {
      await this.#content.writeBytes(digest, await fetch(), this.#signal);
    }
    return await this.#content.read(digest, maxDocumentBytes);
  }
}
