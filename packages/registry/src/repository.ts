import { DataLossError, FailedPreconditionError, InvalidArgumentError } from "@oci-worker/errdefs";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { digestOf } from "@oci-worker/oci/digest";
import { maxDocumentBytes } from "@oci-worker/oci/document";
import { firstToServe } from "./attempts.ts";
import { foreignUrl, readBlob } from "./blob.ts";
import { BlobPlace } from "./blob-place.ts";
import type { BlobRange } from "./blob-range.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Load } from "./gate.ts";
import type { Capability } from "./host.ts";
import type { HttpClient } from "./http/client.ts";
import { bytesBody } from "./http/request.ts";
import { fetchManifest, type ManifestName, nameInPath, resolveManifest } from "./manifests.ts";
import { type Delay, Retries, type Retry } from "./retry.ts";
import { Sending } from "./sending.ts";
import {
  type BlobStat,
  type BlobUpload,
  statBlob,
  type UploadResult,
  uploadBlob,
  uploadManifest,
} from "./upload.ts";
import type { Operation } from "./upload-place.ts";

export type { BlobRange, BlobStat, BlobUpload, ManifestName, Retry, UploadResult };

export interface RepositoryParts {
  /** Path of the repository, such as `library/alpine`. */
  readonly name: string;
  /** In the order in which to try them. */
  readonly endpoints: readonly Endpoint[];
  readonly client: HttpClient;
  readonly delay: Delay;
  readonly onRetry: ((retry: Retry) => void) | undefined;
}

/**
 * The images of one repository, at the hosts that serve it. Every method tries one host after the other, and waits
 * and tries again where that may help.
 *
 * Errors are those of errdefs and name host, repository and digest: NotFoundError if no host has it,
 * UnauthenticatedError and PermissionDeniedError if we may not, UnavailableError if nobody answers, DataLossError if
 * what comes is not what its digest or size promises.
 */
export class Repository {
  readonly name: string;
  readonly #parts: RepositoryParts;

  /** Made by `RegistryClient.repository`. */
  constructor(parts: RepositoryParts) {
    this.name = parts.name;
    this.#parts = parts;
  }

  /** What a tag or digest stands for: a manifest or an index. */
  async resolve(name: ManifestName, signal?: AbortSignal): Promise<Descriptor> {
    const purpose = `resolve ${nameInPath(name)} of ${this.name}`;
    const capability = name.digest === undefined ? "resolve" : "pull";
    return await this.#first(capability, purpose, signal, ({ endpoint }) =>
      resolveManifest(endpoint, { name, purpose }, signal),
    );
  }

  /** The verified bytes of a manifest or index of at most 8 MiB. */
  fetchManifest(manifest: Pick<Descriptor, "digest" | "size">, signal?: AbortSignal): Promise<Buffer> {
    const purpose = `fetch manifest ${manifest.digest} of ${this.name}`;
    return this.#first("pull", purpose, signal, ({ endpoint }) =>
      fetchManifest(endpoint, manifest, purpose, signal),
    );
  }

  /** The verified bytes of a blob that is a document of at most 8 MiB, such as an image config. */
  async fetchDocument(
    { digest, size, urls }: Pick<Descriptor, "digest" | "size" | "urls">,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    if (size > maxDocumentBytes) {
      throw new InvalidArgumentError(
        `Cannot fetch blob ${digest} of ${this.name} as a document: it has ${size} bytes, want at most ${maxDocumentBytes}`,
      );
    }
    const chunks: Buffer[] = [];
    for await (const chunk of this.#readBlob({ digest, size, ...(urls && { urls }) }, "document", signal)) {
      chunks.push(chunk);
    }
    const bytes = Buffer.concat(chunks);
    const actual = digestOf(bytes);
    if (actual !== digest) {
      throw new DataLossError(`Cannot fetch blob ${digest} of ${this.name}: what came has digest ${actual}`);
    }
    return bytes;
  }

  /**
   * The bytes of a blob, or of a part of it, as they come: exactly as many as its size promises. A connection that
   * breaks is made again from where it broke. They are not verified: that is for whoever stores them.
   */
  fetchBlob(blob: BlobRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    return this.#readBlob(blob, "blob", signal);
  }

  /**
   * Where the blob `digest` can be read in parts: at its own `urls`, of which those that are no good are left out, then at
   * each host that may be pulled from.
   */
  placesOf(digest: Descriptor["digest"], urls: readonly string[] = []): BlobPlace[] {
    const { client } = this.#parts;
    const purpose = `fetch blob ${digest} of ${this.name}`;
    const request = { method: "GET", load: "blob", purpose } as const;
    const elsewhere = urls.flatMap((text) => {
      const own = webUrl(text, purpose);
      return own === undefined
        ? []
        : [
            new BlobPlace({
              name: own.host,
              origin: own.origin,
              digest,
              send: (headers, url = own, signal) => client.send({ ...request, headers, url }, signal),
            }),
          ];
    });
    const atHosts = this.#parts.endpoints
      .filter(({ host }) => host.capabilities.includes("pull"))
      .map((endpoint) => {
        const named = endpoint.url(`blobs/${digest}`);
        return new BlobPlace({
          name: named.host,
          origin: named.origin,
          digest,
          send: (headers, url = named, signal) => endpoint.send({ ...request, headers, url }, signal),
        });
      });
    return [...elsewhere, ...atHosts];
  }

  /** What a host says of a blob; undefined if none has it. */
  statBlob(digest: Descriptor["digest"], signal?: AbortSignal): Promise<BlobStat | undefined> {
    const purpose = `find blob ${digest} of ${this.name}`;
    return this.#first("pull", purpose, signal, (operation) => statBlob(operation, digest));
  }

  /** Gets a blob into the repository, where it is sent only if it cannot be had without. */
  pushBlob(upload: BlobUpload, signal?: AbortSignal): Promise<UploadResult> {
    const purpose = `push blob ${upload.digest} of ${this.name}`;
    const sendings = new Map<Endpoint, Sending>();
    return this.#first("push", purpose, signal, (operation) => {
      const sending = sendings.get(operation.endpoint) ?? new Sending(upload);
      sendings.set(operation.endpoint, sending);
      return uploadBlob(operation, upload, sending);
    });
  }

  /** Puts a manifest or index into the repository, under `tag` or else its digest alone. Its blobs must be there. */
  async pushManifest(
    manifest: { readonly mediaType: string; readonly bytes: Uint8Array; readonly tag?: string },
    signal?: AbortSignal,
  ): Promise<Descriptor> {
    const { mediaType, bytes, tag } = manifest;
    const digest = digestOf(bytes);
    const purpose = `push manifest ${digest} of ${this.name}`;
    const upload = { name: tag ?? digest, mediaType, digest, body: bytesBody(bytes) };
    await this.#first("push", purpose, signal, (operation) => uploadManifest(operation, upload));
    return { mediaType, digest, size: bytes.length };
  }

  async *#readBlob(
    blob: BlobRange,
    load: Load,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    const purpose = `fetch blob ${blob.digest} of ${this.name}`;
    const endpoints = this.#endpoints("pull", purpose);
    const source = { endpoints, client: this.#parts.client, purpose, load, retries: this.#retries() };
    yield* readBlob(blob, source, signal);
  }

  /** What the first host with `capability` to answer gives. */
  async #first<T>(
    capability: Capability,
    purpose: string,
    signal: AbortSignal | undefined,
    ask: (operation: Operation) => Promise<T>,
  ): Promise<T> {
    const attempts = this.#endpoints(capability, purpose).map(
      (endpoint) => () => ask({ endpoint, purpose, signal }),
    );
    return await firstToServe(attempts, this.#retries(), signal);
  }

  #endpoints(capability: Capability, purpose: string): Endpoint[] {
    const able = this.#parts.endpoints.filter(({ host }) => host.capabilities.includes(capability));
    if (able.length === 0) {
      throw new FailedPreconditionError(`Cannot ${purpose}: no host is configured for ${capability}`);
    }
    return able;
  }

  #retries(): Retries {
    return new Retries(this.#parts.delay, this.#parts.onRetry);
  }
}

function webUrl(text: string, purpose: string): URL | undefined {
  try {
    return foreignUrl(text, purpose);
  } catch {
    return undefined;
  }
}
