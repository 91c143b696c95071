import { DataLossError, InvalidArgumentError } from "@oci-worker/errdefs";
import type { Descriptor } from "@oci-worker/oci/descriptor";
import { type Digest, digestOf, isDigest } from "@oci-worker/oci/digest";
import { maxDocumentBytes } from "@oci-worker/oci/document";
import { imageDocumentTypes, isIndex, isManifest } from "@oci-worker/oci/media-type";
import type { Endpoint } from "./endpoint.ts";
import type { HttpResponse } from "./http/response.ts";
import { statusError } from "./status.ts";

/** What names a manifest in a repository; the digest counts where there are both. */
export interface ManifestName {
  readonly tag?: string;
  readonly digest?: Digest;
}

/** "*" last: some registries refuse a list of types that does not have theirs, and we want to see what it is. */
const accept = [...imageDocumentTypes, "*/*"].join(", ");

/** `tag` or `digest`, as it stands in a path. */
export function nameInPath({ tag, digest }: ManifestName): string {
  const name = digest ?? tag;
  if (name === undefined) {
    throw new InvalidArgumentError("Cannot name a manifest: want a tag or a digest");
  }
  return name;
}

/** What is asked for, for errors: such as "resolve 3 of library/alpine". */
interface ManifestRequest {
  readonly name: ManifestName;
  readonly purpose: string;
}

/**
 * Asks one host for a manifest without fetching it, unless its answer lacks what we need to know.
 *
 * @throws DataLossError if the host says another digest than was asked for.
 */
export async function resolveManifest(
  endpoint: Endpoint,
  request: ManifestRequest,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  const told = await headManifest(endpoint, request, signal);
  if (told !== undefined) {
    return told;
  }
  using response = await send("GET", endpoint, request, signal);
  const bytes = await bodyOf(response);
  return described(response, requireDigest(response, digestOf(bytes), request.name.digest), bytes.length);
}

/** What an answer without body tells; undefined if that is not enough. */
async function headManifest(
  endpoint: Endpoint,
  request: ManifestRequest,
  signal: AbortSignal | undefined,
): Promise<Descriptor | undefined> {
  using response = await send("HEAD", endpoint, request, signal);
  if (response.status === 405) {
    return undefined;
  }
  if (response.status !== 200) {
    throw await statusError(response);
  }
  const digest = digestHeader(response);
  const size = response.contentLength ?? 0;
  return digest === undefined || size === 0
    ? undefined
    : described(response, requireDigest(response, digest, request.name.digest), size);
}

function send(
  method: "GET" | "HEAD",
  endpoint: Endpoint,
  { name, purpose }: ManifestRequest,
  signal: AbortSignal | undefined,
): Promise<HttpResponse> {
  const url = endpoint.url(`manifests/${nameInPath(name)}`);
  return endpoint.send({ method, url, purpose, load: "document", headers: { accept } }, signal);
}

/** Fetches a manifest from one host and checks that it is what was asked for. */
export async function fetchManifest(
  endpoint: Endpoint,
  { digest, size }: Pick<Descriptor, "digest" | "size">,
  purpose: string,
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  using response = await send("GET", endpoint, { name: { digest }, purpose }, signal);
  const bytes = await bodyOf(response);
  if (bytes.length !== size) {
    throw new DataLossError(`${response.attempt}: it has ${bytes.length} bytes, want ${size}`);
  }
  requireDigest(response, digestOf(bytes), digest);
  return bytes;
}

/** The digest that the host gives, if it is one that we can verify. */
function digestHeader(response: HttpResponse): Digest | undefined {
  const text = response.header("docker-content-digest") ?? "";
  return isDigest(text) ? text : undefined;
}

async function bodyOf(response: HttpResponse): Promise<Buffer> {
  if (response.status !== 200) {
    throw await statusError(response);
  }
  return await response.bytes(maxDocumentBytes);
}

function requireDigest(response: HttpResponse, digest: Digest, wanted: Digest | undefined): Digest {
  if (wanted !== undefined && digest !== wanted) {
    throw new DataLossError(`${response.attempt}: it has digest ${digest}, want ${wanted}`);
  }
  return digest;
}

function described(response: HttpResponse, digest: Digest, size: number): Descriptor {
  const mediaType = response.header("content-type")?.split(";", 1)[0]?.trim() ?? "";
  if (!isIndex(mediaType) && !isManifest(mediaType)) {
    throw new InvalidArgumentError(
      `${response.attempt}: its media type is ${JSON.stringify(mediaType.slice(0, 200))}, want a manifest or index of OCI or Docker schema 2`,
    );
  }
  if (size > maxDocumentBytes) {
    throw new InvalidArgumentError(
      `${response.attempt}: it has ${size} bytes, want at most ${maxDocumentBytes}`,
    );
  }
  return { mediaType, digest, size };
}
