import { FailedPreconditionError } from "@oci-worker/errdefs";
import { type Attempt, firstToServe } from "./attempts.ts";
import { type BlobRange, bytesOf, type Rest, rangeHeaders, restOf } from "./blob-range.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Load } from "./gate.ts";
import type { HttpClient } from "./http/client.ts";
import type { HttpResponse } from "./http/response.ts";
import type { Retries } from "./retry.ts";
import { statusError } from "./status.ts";

export interface BlobSource {
  /** Hosts that have the blob, the best first. */
  readonly endpoints: readonly Endpoint[];
  /** For places that are no registry hosts. */
  readonly client: HttpClient;
  /** Such as "fetch blob sha256:… of library/alpine". */
  readonly purpose: string;
  readonly load: Load;
  readonly retries: Retries;
}

/**
 * The bytes of a blob, as they come. A connection that breaks is made again from where it broke, at whichever host
 * serves it then.
 *
 * Exactly as many bytes come as the size promises. Whether they are the right ones is for whoever stores them to find
 * out.
 *
 * @throws DataLossError if the registry has more or less bytes than that.
 */
export async function* readBlob(
  blob: BlobRange,
  source: BlobSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  let { position, end }: Rest = restOf(blob);
  while (end === undefined || position < end) {
    try {
      using response = await open(blob, { position, end }, source, signal);
      for await (const bytes of bytesOf(response, blob, { position, end })) {
        position += bytes.length;
        source.retries.reset();
        yield bytes;
      }
      return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(await source.retries.wait(error, signal))) {
        throw error;
      }
    }
  }
}

/** The first answer that has bytes: from the blob's own URLs, then from the hosts of the repository. */
function open(
  blob: BlobRange,
  rest: Rest,
  { endpoints, client, purpose, load, retries }: BlobSource,
  signal: AbortSignal | undefined,
): Promise<HttpResponse> {
  const request = { method: "GET", load, purpose, headers: rangeHeaders(blob, rest) } as const;
  const elsewhere = (blob.urls ?? []).map(
    (url): Attempt<HttpResponse> =>
      async () =>
        requireBytes(await client.send({ ...request, url: foreignUrl(url, purpose) }, signal)),
  );
  const atHosts = endpoints.map(
    (endpoint): Attempt<HttpResponse> =>
      async () =>
        requireBytes(await endpoint.send({ ...request, url: endpoint.url(`blobs/${blob.digest}`) }, signal)),
  );
  return firstToServe([...elsewhere, ...atHosts], retries, signal);
}

/** `response`, if it has bytes of a blob; else its error. */
export async function requireBytes(response: HttpResponse): Promise<HttpResponse> {
  if (response.status === 200 || response.status === 206) {
    return response;
  }
  using refused = response;
  throw await statusError(refused);
}

/** A URL out of a manifest, which anybody may have written. */
export function foreignUrl(text: string, purpose: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isWeb = url?.protocol === "https:" || url?.protocol === "http:";
  if (url === undefined || !isWeb || url.username !== "" || url.password !== "") {
    throw new FailedPreconditionError(
      `Cannot ${purpose}: one of its URLs is not http or https, or has credentials in it`,
    );
  }
  return url;
}
