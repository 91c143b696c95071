import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { constants, gunzip, gunzipSync, zstdDecompress, zstdDecompressSync } from "node:zlib";
import { DataLossError } from "@oci-worker/errdefs";
import { type Digest, digestOfHash } from "@oci-worker/oci/digest";
import type { ChunkCompression } from "./footer/footer.ts";

/** A part of a file that can be read by itself. */
export interface Chunk {
  /** In the file. */
  readonly fileOffset: number;
  readonly sizeBytes: number;
  readonly digest: Digest;
  /** The bytes of the blob to decompress for it: a gzip member or zstd frame, of which it may be only a part. */
  readonly offset: number;
  readonly compressedBytes: number;
  /** Where in those, decompressed, it begins. */
  readonly innerOffset: number;
}

/**
 * How much more than what is wanted may be decompressed with it: behind a file stand the headers of what follows. It is
 * more than any single compressed byte can become, so some beginning of a member gives enough and not too much.
 */
const slackBytes = 4 * 1024 * 1024;

/**
 * A chunk out of the bytes that it names, decompressed and checked. Does nothing else: for any thread.
 *
 * @throws {DataLossError} if they are corrupt, cut short, or not what the chunk's digest says.
 */
export function readChunk(chunk: Chunk, compression: ChunkCompression, compressed: Buffer): Buffer {
  return verifiedChunk(chunk, decompressMember(compression, compressed, chunk.innerOffset + chunk.sizeBytes));
}

/**
 * The first `wantedBytes` of what `compressed` begins with, or all where it is less. Of a bomb, no more than a few
 * megabytes beyond them are decompressed.
 *
 * @throws {DataLossError} if the data is corrupt.
 */
export function decompressMember(
  compression: ChunkCompression,
  compressed: Buffer,
  wantedBytes: number,
): Buffer {
  const maxBytes = wantedBytes + slackBytes;
  const whole = decompressWithin(compression, compressed, maxBytes);
  return (whole ?? fittingBeginning(compression, compressed, wantedBytes)).subarray(0, wantedBytes);
}

/**
 * As {@link decompressMember}, by a thread of Node's pool: for members so large that the caller's has better to do meanwhile.
 *
 * @throws {DataLossError} if the data is corrupt.
 */
export async function decompressMemberElsewhere(
  compression: ChunkCompression,
  compressed: Buffer,
  wantedBytes: number,
): Promise<Buffer> {
  const maxBytes = wantedBytes + slackBytes;
  const decompress = compression === "gzip" ? promisify(gunzip) : promisify(zstdDecompress);
  // At once where that can be: each piece is a way there and back.
  const options = optionsFor(compression, maxBytes, maxElsewhereBytes);
  const whole = await decompress(compressed, options).catch((cause: unknown) =>
    tooLargeOrCorrupt(compression, cause),
  );
  return (whole ?? fittingBeginning(compression, compressed, wantedBytes)).subarray(0, wantedBytes);
}

/**
 * `chunk` out of its member, decompressed; for a member with several.
 *
 * @throws {DataLossError} if it is not there, or not what its digest says.
 */
export function verifiedChunk(chunk: Chunk, member: Buffer): Buffer {
  const bytes = member.subarray(chunk.innerOffset, chunk.innerOffset + chunk.sizeBytes);
  if (bytes.length < chunk.sizeBytes) {
    throw new DataLossError(
      `Cannot read chunk at ${chunk.offset}: it ends after ${bytes.length} bytes, want ${chunk.sizeBytes}`,
    );
  }
  const digest = digestOfHash(createHash("sha256").update(bytes));
  if (digest !== chunk.digest) {
    throw new DataLossError(
      `Cannot read chunk at ${chunk.offset}: its digest is ${digest}, want ${chunk.digest}`,
    );
  }
  return bytes;
}

/** Decompresses the shortest beginning that is found to give enough: what half as much would not. */
function fittingBeginning(compression: ChunkCompression, compressed: Buffer, wantedBytes: number): Buffer {
  let [tooFew, tooMany] = [0, compressed.length];
  while (tooMany - tooFew > 1) {
    const middle = (tooFew + tooMany) >>> 1;
    const some = decompressWithin(compression, compressed.subarray(0, middle), wantedBytes + slackBytes);
    if (some === undefined) {
      tooMany = middle;
    } else if (some.length < wantedBytes) {
      tooFew = middle;
    } else {
      return some;
    }
  }
  throw new DataLossError(`Cannot decompress ${compression}: a single byte of it is more than ${slackBytes}`);
}

/** All of `compressed`, which may be cut short; undefined if that is more than `maxBytes`. */
function decompressWithin(
  compression: ChunkCompression,
  compressed: Buffer,
  maxBytes: number,
): Buffer | undefined {
  const options = optionsFor(compression, maxBytes, maxPieceBytes);
  try {
    return compression === "gzip" ? gunzipSync(compressed, options) : zstdDecompressSync(compressed, options);
  } catch (cause) {
    return tooLargeOrCorrupt(compression, cause);
  }
}

function optionsFor(compression: ChunkCompression, maxBytes: number, maxPiece: number) {
  const finishFlush = compression === "gzip" ? constants.Z_SYNC_FLUSH : constants.ZSTD_e_continue;
  const chunkSize = Math.min(maxBytes - slackBytes + usualRestBytes, maxPiece);
  return { finishFlush, maxOutputLength: maxBytes, chunkSize };
}

function tooLargeOrCorrupt(compression: ChunkCompression, cause: unknown): undefined {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  if (code === "ERR_BUFFER_TOO_LARGE") {
    return undefined;
  }
  if (/^Z(STD)?_/.test(code)) {
    throw new DataLossError(`Cannot decompress ${compression}: it is corrupt (${code})`, { cause });
  }
  throw cause;
}

/** What the decompressor fills at a time: most files fit in one. The room for it is taken at once, however little comes. */
const maxPieceBytes = 64 * 1024;

/** Chunks of large files have 4 MiB where nobody says otherwise, and then something follows. */
const maxElsewhereBytes = 4 * 1024 * 1024 + 64 * 1024;

/** Behind the content of a file there is little more in a member than the headers of what follows. */
const usualRestBytes = 4096;

/**
 * How many compressed bytes it can take at most to get `sizeBytes`: with what compressors add to data that does not get
 * smaller, a header with a name, and the rest of a zstd block, of which nothing comes out before it is whole. It bounds
 * what is fetched for a chunk, whatever a TOC says.
 */
export function maxCompressedBytes(sizeBytes: number): number {
  return sizeBytes + Math.ceil(sizeBytes / 64) + 256 * 1024;
}
