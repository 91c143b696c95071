import { pipeline, Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Compression } from "./detect.ts";

/**
 * What one call of the decompressor yields at most, and what may wait on either side of it. Measured: calls and whoever
 * reads take turns unless there is enough for both to work on; from here on more only takes memory.
 */
const streamOptions = {
  readableHighWaterMark: 4 * 1024 * 1024,
  writableHighWaterMark: 1024 * 1024,
};
const maxPieceBytes = 2 * 1024 * 1024;

/** What is small gets little: the room is taken at once, and many such rooms have the garbage collector run for each. */
const minPieceBytes = 64 * 1024;

/** Text is seldom packed tighter. */
const usualRatio = 8;

/**
 * Decompresses `pieces`, which have `sizeBytes` together: all the members or frames that follow one another.
 *
 * Works in the thread pool, a few pieces ahead of who reads and no further: what nobody asks for is not decompressed.
 *
 * @throws {InvalidArgumentError} if the data is corrupt, cut short, or followed by something else.
 */
export async function* decompress(
  compression: Exclude<Compression, "none">,
  pieces: Iterable<Buffer> | AsyncIterable<Buffer>,
  sizeBytes: number,
): AsyncGenerator<Buffer> {
  const create = compression === "gzip" ? createGunzip : createZstdDecompress;
  const chunkSize = Math.min(Math.max(sizeBytes * usualRatio, minPieceBytes), maxPieceBytes);
  const decompressor = create({ ...streamOptions, chunkSize });
  // An error of either comes out of the loop below.
  pipeline(Readable.from(pieces, { highWaterMark: 1 }), decompressor, () => undefined);
  try {
    for await (const piece of decompressor) {
      yield piece;
    }
  } catch (cause) {
    throw isDataError(cause)
      ? new InvalidArgumentError(`Cannot decompress ${compression}: ${cause.message}`, { cause })
      : cause;
  }
  const leftBytes = sizeBytes - decompressor.bytesWritten;
  if (leftBytes > 0) {
    throw new InvalidArgumentError(
      `Cannot decompress ${compression}: after its end follow ${leftBytes} bytes of something else`,
    );
  }
}

/** Codes of zlib and zstd, as opposed to those of system calls. */
function isDataError(error: unknown): error is Error {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "string" &&
    /^Z(STD)?_/.test(error.code)
  );
}
