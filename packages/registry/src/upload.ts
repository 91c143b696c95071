import { DataLossError, PermissionDeniedError, UnauthenticatedError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { RequestBody } from "./http/request.ts";
import type { Sending } from "./sending.ts";
import { statusError } from "./status.ts";
import { type Operation, type UploadPlace, uploadPlace } from "./upload-place.ts";

/** A blob to be pushed. */
export interface BlobUpload {
  readonly digest: Digest;
  readonly body: RequestBody;
  /** A repository of the same registry that may have it, so that nothing need be sent. */
  readonly mountFrom?: string;
}

/** How a blob came to be in the repository. */
export type UploadResult = "exists" | "mounted" | "uploaded";

/** What a host says of a blob that it has. */
export interface BlobStat {
  /** Bytes, if it says. */
  readonly size?: number;
}

export interface ManifestUpload {
  /** Tag or digest. */
  readonly name: string;
  readonly mediaType: string;
  readonly digest: Digest;
  readonly body: RequestBody;
}

/** Asks one host for a blob without fetching it; undefined if it has none. */
export async function statBlob(
  { endpoint, purpose, signal }: Operation,
  digest: Digest,
): Promise<BlobStat | undefined> {
  const url = endpoint.url(`blobs/${digest}`);
  using response = await endpoint.send({ method: "HEAD", url, purpose, load: "document" }, signal);
  if (response.status === 404) {
    return undefined;
  }
  if (response.status !== 200) {
    throw await statusError(response);
  }
  return response.contentLength === undefined ? {} : { size: response.contentLength };
}

/**
 * Gets a blob into the repository of one host, in the cheapest way that works.
 *
 * @param sending what has become of earlier tries.
 */
export async function uploadBlob(
  operation: Operation,
  upload: BlobUpload,
  sending: Sending,
): Promise<UploadResult> {
  const { digest, body, mountFrom } = upload;
  const present = await statBlob(operation, digest);
  if (present !== undefined && (present.size ?? body.sizeBytes) === body.sizeBytes) {
    return "exists";
  }
  const started = mountFrom === undefined ? undefined : await tryMount(operation, digest, mountFrom);
  if (started === "mounted") {
    return "mounted";
  }
  await sending.send(operation, started);
  return "uploaded";
}

/** Puts a manifest under a tag or its digest, unless that is its name already: some registries let no tag be written twice. */
export async function uploadManifest(operation: Operation, upload: ManifestUpload): Promise<void> {
  const { endpoint, purpose, signal } = operation;
  const { name, mediaType, digest, body } = upload;
  const url = endpoint.url(`manifests/${name}`);
  if (await isNamed(operation, url, upload)) {
    return;
  }
  const headers = { "content-type": mediaType };
  using response = await endpoint.send(
    { method: "PUT", url, purpose, load: "document", headers, body },
    signal,
  );
  if (response.status < 200 || response.status > 204) {
    throw await statusError(response);
  }
  const stored = response.header("docker-content-digest");
  if (stored !== undefined && stored !== digest) {
    throw new DataLossError(
      `${response.attempt}: it stored it as ${JSON.stringify(stored.slice(0, 100))}, want ${digest}`,
    );
  }
}

/** Whether `url` is the manifest's already. What else a host says of it, it will say again when it is to take the manifest. */
async function isNamed(
  { endpoint, purpose, signal }: Operation,
  url: URL,
  { mediaType, digest }: ManifestUpload,
): Promise<boolean> {
  const headers = { accept: mediaType };
  using response = await endpoint.send({ method: "HEAD", url, purpose, load: "document", headers }, signal);
  return response.status === 200 && response.header("docker-content-digest") === digest;
}

/**
 * Asks the registry to take the blob over from another repository.
 *
 * @returns where to upload to if it wants to be sent the blob all the same; undefined if nobody lets us read that
 * repository, which is no reason not to write to ours.
 */
async function tryMount(
  { endpoint, purpose, signal }: Operation,
  digest: Digest,
  from: string,
): Promise<"mounted" | UploadPlace | undefined> {
  const url = endpoint.url("blobs/uploads/", { mount: digest, from });
  const extraScopes = [`repository:${from}:pull`];
  try {
    using response = await endpoint.send(
      { method: "POST", url, purpose, load: "document", extraScopes },
      signal,
    );
    switch (response.status) {
      case 201:
        return "mounted";
      case 202:
        return uploadPlace(response);
      default:
        return undefined;
    }
  } catch (error) {
    if (error instanceof UnauthenticatedError || error instanceof PermissionDeniedError) {
      return undefined;
    }
    throw error;
  }
}
