import { DataLossError, UnknownError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import { requireBytes } from "./blob.ts";
import { bytesOf } from "./blob-range.ts";
import type { Headers } from "./http/request.ts";
import type { HttpResponse } from "./http/response.ts";

/** Sends a GET with `headers` to `url`; undefined means where the blob is by its name. */
export type SendGet = (
  headers: Headers,
  url: URL | undefined,
  signal: AbortSignal | undefined,
) => Promise<HttpResponse>;

export interface BlobPlaceOptions {
  /** Host and port. */
  readonly name: string;
  readonly origin: string;
  readonly digest: Digest;
  readonly send: SendGet;
}

/** What a server may say that does not know ranges counted from the end (RFC 9110, 14.1.2). */
const suffixRefusals: ReadonlySet<number> = new Set([400, 416, 501]);

const served: ReadonlySet<number> = new Set([200, 206]);

/**
 * A blob at one host, to be read in parts, over and over, for as long as somebody uses it.
 *
 * Where the host sends us on is remembered, which saves a round trip for each part, until that place refuses us: what it
 * was signed with has expired then. Nothing is tried twice here and nothing is verified: whoever has several places does
 * that.
 *
 * @throws what {@link Repository} throws, from each method.
 */
export class BlobPlace {
  readonly name: string;
  readonly #options: BlobPlaceOptions;
  #direct: URL | undefined;
  #sendsWhole = false;
  #requests = 0;

  /** Made by `Repository.placesOf`. */
  constructor(options: BlobPlaceOptions) {
    this.name = options.name;
    this.#options = options;
  }

  /** Whether it has answered a request for a part with the whole, so that a part costs all that is before it. */
  get sendsWhole(): boolean {
    return this.#sendsWhole;
  }

  /** How often it was asked for something; what it was sent on to counts as well. */
  get requests(): number {
    return this.#requests;
  }

  /** The last `maxBytes`, or all if there are fewer, and how many the blob has: in one request of any server that can. */
  async readTail(
    maxBytes: number,
    signal: AbortSignal | undefined,
  ): Promise<{ tail: Buffer; blobBytes: number }> {
    using response = await this.#ask({ range: `bytes=-${maxBytes}` }, signal);
    if (suffixRefusals.has(response.status)) {
      // The host may have no room for another request before this one is over.
      response[Symbol.dispose]();
      const blobBytes = await this.#size(signal);
      const tailBytes = Math.min(maxBytes, blobBytes);
      const pieces = await Array.fromAsync(this.read(blobBytes - tailBytes, tailBytes, signal));
      return { tail: Buffer.concat(pieces), blobBytes };
    }
    await requireBytes(response);
    const { first, blobBytes } = tailPlace(response);
    const { tail, end } = await endOf(response, maxBytes, first);
    if (blobBytes !== undefined && end !== blobBytes) {
      throw new DataLossError(`${response.attempt}: it ended after ${end} bytes, want ${blobBytes}`);
    }
    return { tail, blobBytes: end };
  }

  /** Exactly `sizeBytes` from `offset` on, as they come. */
  async *read(
    offset: number,
    sizeBytes: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    if (sizeBytes === 0) {
      return;
    }
    const end = offset + sizeBytes;
    using response = await requireBytes(await this.#ask({ range: `bytes=${offset}-${end - 1}` }, signal));
    if (response.status === 200 && offset > 0) {
      this.#sendsWhole = true;
    }
    yield* bytesOf(response, { digest: this.#options.digest }, { position: offset, end });
  }

  async #size(signal: AbortSignal | undefined): Promise<number> {
    using response = await requireBytes(await this.#ask({ range: "bytes=0-0" }, signal));
    const total =
      response.status === 200
        ? response.contentLength
        : contentRange(response.header("content-range"))?.total;
    if (total === undefined) {
      throw new UnknownError(`${response.attempt}: it does not tell how many bytes the blob has`);
    }
    return total;
  }

  async #ask(headers: Headers, signal: AbortSignal | undefined): Promise<HttpResponse> {
    const direct = this.#direct;
    if (direct !== undefined) {
      const response = await this.#askDirectly(direct, headers, signal);
      if (response !== undefined) {
        return response;
      }
      // Another request may have found a new one meanwhile.
      this.#direct = this.#direct === direct ? undefined : this.#direct;
    }
    this.#requests += 1;
    const response = await this.#options.send(headers, undefined, signal);
    if (served.has(response.status) && response.url.origin !== this.#options.origin) {
      this.#direct = response.url;
    }
    return response;
  }

  /** @returns undefined if that place will have no more of us, whatever the reason. */
  async #askDirectly(
    url: URL,
    headers: Headers,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse | undefined> {
    this.#requests += 1;
    try {
      const response = await this.#options.send(headers, url, signal);
      if (served.has(response.status)) {
        return response;
      }
      response[Symbol.dispose]();
    } catch {
      signal?.throwIfAborted();
    }
    return undefined;
  }
}

/** Where the body of an answer with the end of a blob begins. */
function tailPlace(response: HttpResponse): { first: number; blobBytes: number | undefined } {
  if (response.status === 200) {
    return { first: 0, blobBytes: response.contentLength };
  }
  const range = contentRange(response.header("content-range"));
  if (range?.total === undefined || range.last !== range.total - 1) {
    throw new UnknownError(`${response.attempt}: it answered with another range than was asked for`);
  }
  return { first: range.first, blobBytes: range.total };
}

/** The last `maxBytes` of a body that begins at `first` of the blob, and where in that it ends. */
async function endOf(
  response: HttpResponse,
  maxBytes: number,
  first: number,
): Promise<{ tail: Buffer; end: number }> {
  const pieces: Buffer[] = [];
  let [kept, end] = [0, first];
  for await (const piece of response.chunks()) {
    pieces.push(piece);
    kept += piece.length;
    end += piece.length;
    while (kept - (pieces[0]?.length ?? 0) >= maxBytes) {
      kept -= pieces.shift()?.length ?? 0;
    }
  }
  return { tail: Buffer.concat(pieces).subarray(-maxBytes), end };
}

function contentRange(
  header = "",
): { readonly first: number; readonly last: number; readonly total: number | undefined } | undefined {
  const range = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(header);
  const [, first, last, total] = range ?? [];
  return range === null
    ? undefined
    : { first: Number(first), last: Number(last), total: total === "*" ? undefined : Number(total) };
}
