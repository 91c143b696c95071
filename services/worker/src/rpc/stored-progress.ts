import { createReadStream } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type StatusResponse, StatusResponseSchema } from "@oci-worker/api/buildkit/control";
import { DataLossError } from "@oci-worker/errdefs";
import type { ProgressEvent } from "../solver/progress.ts";
import { statusResponses } from "./progress.ts";

/** Length of the number before each message: its bytes, little endian. */
const prefixBytes = 4;

/** Progress is stored in messages of so many events: enough to be quick, few enough for a message to stay small. */
const eventsPerMessage = 1000;

/** The progress of a build as a blob: messages of Control.Status, each behind its length, as clients of BuildKit read it. */
export function encodeProgress(events: readonly ProgressEvent[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let start = 0; start < events.length; start += eventsPerMessage) {
    for (const response of statusResponses(events.slice(start, start + eventsPerMessage))) {
      const message = toBinary(StatusResponseSchema, create(StatusResponseSchema, response));
      const prefix = Buffer.alloc(prefixBytes);
      prefix.writeUInt32LE(message.length);
      pieces.push(prefix, message);
    }
  }
  return Buffer.concat(pieces);
}

/**
 * The messages of such a blob.
 *
 * @throws {DataLossError} if it ends within one.
 */
export async function* decodeProgress(
  path: string,
  signal: AbortSignal,
): AsyncGenerator<StatusResponse, void> {
  let left = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { signal })) {
    left = Buffer.concat([left, chunk]);
    for (;;) {
      const size = left.length >= prefixBytes ? left.readUInt32LE() : undefined;
      if (size === undefined || left.length < prefixBytes + size) {
        break;
      }
      yield fromBinary(StatusResponseSchema, left.subarray(prefixBytes, prefixBytes + size));
      left = left.subarray(prefixBytes + size);
    }
  }
  if (left.length > 0) {
    throw new DataLossError(`Cannot show the progress of a build: ${path} ends within a message`);
  }
}
