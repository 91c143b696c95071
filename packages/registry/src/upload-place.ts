import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Endpoint } from "./endpoint.ts";
import { TransientError } from "./http/errors.ts";
import { resolveLocation } from "./http/redirect.ts";
import { bytesBody, type Headers, type RequestBody } from "./http/request.ts";
import type { HttpResponse } from "./http/response.ts";
import { statusError } from "./status.ts";

/** One thing done at one host. */
export interface Operation {
  readonly endpoint: Endpoint;
  /** Such as "push blob sha256:… of library/alpine". */
  readonly purpose: string;
  readonly signal: AbortSignal | undefined;
}

/** An upload that a registry has begun. */
export interface UploadPlace {
  /** Where what comes next goes, which may be another host. */
  readonly url: URL;
  /** The least that the registry takes as a piece that is not the last, in bytes; 0 if it does not say. */
  readonly minPieceBytes: number;
}

/** Has a registry begin an upload. */
export async function startUpload({ endpoint, purpose, signal }: Operation): Promise<UploadPlace> {
  const url = endpoint.url("blobs/uploads/");
  using response = await endpoint.send({ method: "POST", url, purpose, load: "document" }, signal);
  if (response.status !== 202) {
    throw await statusError(response);
  }
  return uploadPlace(response);
}

/** Where an upload goes on, as an answer to it says. */
export function uploadPlace(response: HttpResponse): UploadPlace {
  const location = response.header("location");
  if (location === undefined) {
    throw new FailedPreconditionError(`${response.attempt}: it does not say where to upload to`);
  }
  const least = Number(response.header("oci-chunk-min-length") ?? 0);
  return {
    url: resolveLocation(response.url, location),
    minPieceBytes: Number.isSafeInteger(least) && least > 0 ? least : 0,
  };
}

/** Sends what is left of a blob, and has the registry take the whole for `digest`. */
export async function finishUpload(
  operation: Operation,
  place: UploadPlace,
  digest: Digest,
  body: RequestBody = bytesBody(Buffer.alloc(0)),
): Promise<void> {
  const url = new URL(place.url);
  // The rest of the query stays as it was written: it may be signed.
  url.search += `${url.search === "" ? "?" : "&"}digest=${encodeURIComponent(digest)}`;
  using response = await sendTo(url, "PUT", operation, body);
  if (response.status !== 201 && response.status !== 204) {
    throw await uploadError(response);
  }
}

/**
 * Sends the piece of a blob that begins at `offset` (distribution-spec, "Pushing a blob in chunks").
 *
 * @returns where the next one goes.
 */
export async function sendPiece(
  operation: Operation,
  place: UploadPlace,
  offset: number,
  piece: RequestBody,
): Promise<UploadPlace> {
  const headers = { "content-range": `${offset}-${offset + piece.sizeBytes - 1}` };
  using response = await sendTo(place.url, "PATCH", operation, piece, headers);
  if (response.status !== 202) {
    throw await uploadError(response);
  }
  return uploadPlace(response);
}

function sendTo(
  url: URL,
  method: "PATCH" | "PUT",
  { endpoint, purpose, signal }: Operation,
  body: RequestBody,
  more: Headers = {},
): Promise<HttpResponse> {
  const headers = { "content-type": "application/octet-stream", ...more };
  return endpoint.send({ method, url, purpose, load: "blob", headers, body }, signal);
}

/**
 * It has begun the upload a moment ago. One that has restarted since knows nothing of it, and one that has half of it does not begin
 * it anew; both take another one.
 */
async function uploadError(response: HttpResponse): Promise<Error> {
  const error = await statusError(response);
  const isLost = response.status === 404 || response.status === 416;
  return isLost ? new TransientError(error.message, { cause: error }) : error;
}
