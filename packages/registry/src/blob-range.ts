import { DataLossError, InvalidArgumentError, UnknownError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import type { Headers } from "./http/request.ts";
import type { HttpResponse } from "./http/response.ts";

/** A blob to be read, or a part of one. */
export interface BlobRange {
  readonly digest: Digest;
  /** Bytes of the whole blob; absent if nobody knows. As many come then as the registry has. */
  readonly size?: number;
  /** Other places to try before the hosts, without authorization. */
  readonly urls?: readonly string[];
  /** First byte to read; 0 if absent. */
  readonly offset?: number;
  /** Bytes to read; absent: up to the end. */
  readonly length?: number;
}

/** Which bytes are still to be read: from `position` to before `end`, or to the end of a blob of unknown size. */
export interface Rest {
  readonly position: number;
  readonly end: number | undefined;
}

/** @throws {InvalidArgumentError} if the range is not within the blob. */
export function restOf({ digest, size, offset = 0, length }: BlobRange): Rest {
  const end = length === undefined ? size : offset + length;
  const numbers = [offset, length ?? 0, size ?? 0];
  const isWithin = end === undefined || (offset <= end && end <= (size ?? end));
  if (!numbers.every((number) => Number.isSafeInteger(number) && number >= 0) || !isWithin) {
    throw new InvalidArgumentError(
      `Cannot read ${length ?? "all"} bytes from ${offset} of blob ${digest}: it has ${size ?? "an unknown number of"} bytes`,
    );
  }
  return { position: offset, end };
}

/** The Range header that asks for `rest`; none for a whole blob, which every registry has. */
export function rangeHeaders({ size }: BlobRange, { position, end }: Rest): Headers {
  if (position === 0 && (end === undefined || end === size)) {
    return {};
  }
  return { range: `bytes=${position}-${end === undefined ? "" : end - 1}` };
}

/**
 * The bytes of `rest` out of a 200 or 206, which may carry more.
 *
 * @throws {DataLossError} if the blob has another size than it should.
 */
export async function* bytesOf(
  response: HttpResponse,
  blob: BlobRange,
  { position, end }: Rest,
): AsyncGenerator<Buffer, void, undefined> {
  const { first, total } = placeOf(response, position);
  if (blob.size !== undefined && total !== undefined && total !== blob.size) {
    throw new DataLossError(`${response.attempt}: it has ${total} bytes, want ${blob.size}`);
  }
  let at = first;
  for await (const chunk of response.chunks()) {
    const part = chunk.subarray(Math.max(0, position - at), end === undefined ? chunk.length : end - at);
    at += chunk.length;
    if (part.length > 0) {
      yield part;
    }
    if (end !== undefined && at > end) {
      if (end === blob.size) {
        throw new DataLossError(`${response.attempt}: it sent more than ${end} bytes`);
      }
      return;
    }
  }
  if (end !== undefined && at < end) {
    throw new DataLossError(`${response.attempt}: it ended after ${at} bytes, want ${end}`);
  }
}

/** Where in the blob the body of a response begins, and the size of the blob as far as the response tells it. */
function placeOf(response: HttpResponse, position: number): { first: number; total: number | undefined } {
  if (response.status === 200) {
    return { first: 0, total: response.contentLength };
  }
  const range = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15}|\*)$/.exec(response.header("content-range") ?? "");
  const [, first = "", total = "*"] = range ?? [];
  if (range === null || Number(first) !== position) {
    throw new UnknownError(`${response.attempt}: it answered with another range than was asked for`);
  }
  return { first: position, total: total === "*" ? undefined : Number(total) };
}
