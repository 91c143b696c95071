import { createHash } from "node:crypto";
import { pipeline, Readable } from "node:stream";
import { constants, createGzip, createZstdCompress } from "node:zlib";
import { type Digest, digestOfHash } from "@oci-worker/oci/digest";
import type { Compression } from "./detect.ts";

/** What a compressor is given at once: each call of it costs a turn of the thread pool, however little it is for. */
const pieceBytes = 1024 * 1024;

/** A layer that has been compressed. */
export interface CompressedArchive {
  /** Of the blob. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Of the archive. */
  readonly diffID: Digest;
  readonly archiveBytes: number;
}

/**
 * Compresses the archive that `pieces` are, gives it to `sink` piece by piece, and tells the digests of both.
 *
 * The same archive gives the same bytes, with the same version of Node: it has the compressors.
 *
 * @param level of the compressor; undefined for what that uses by itself.
 */
export async function compressArchive(
  pieces: AsyncIterable<Uint8Array>,
  compression: Compression,
  level: number | undefined,
  sink: (bytes: Buffer) => Promise<void> | void,
): Promise<CompressedArchive> {
  const [archive, blob] = [new Measured(), new Measured()];
  const measured = archive.through(gathered(pieces));
  for await (const piece of compression === "none" ? measured : compressed(measured, compression, level)) {
    blob.add(piece);
    await sink(piece);
  }
  return { ...blob.end(), diffID: archive.end().digest, archiveBytes: archive.sizeBytes };
}

async function* compressed(
  pieces: AsyncIterable<Buffer>,
  compression: Exclude<Compression, "none">,
  level: number | undefined,
): AsyncGenerator<Buffer> {
  const compressor =
    compression === "gzip"
      ? createGzip({ chunkSize: pieceBytes, ...(level !== undefined && { level }) })
      : createZstdCompress({
          chunkSize: pieceBytes,
          ...(level !== undefined && { params: { [constants.ZSTD_c_compressionLevel]: level } }),
        });
  // An error of either comes out of the loop below.
  pipeline(Readable.from(pieces, { highWaterMark: 1 }), compressor, () => undefined);
  yield* compressor;
}

/** The same bytes in pieces that are worth a call. */
async function* gathered(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  for await (const piece of pieces) {
    waiting.push(piece);
    waitingBytes += piece.length;
    if (waitingBytes >= pieceBytes) {
      yield Buffer.concat(waiting);
      waiting = [];
      waitingBytes = 0;
    }
  }
  if (waitingBytes > 0) {
    yield Buffer.concat(waiting);
  }
}

/** Counts and hashes what passes. */
class Measured {
  readonly #hash = createHash("sha256");
  sizeBytes = 0;

  add(piece: Buffer): void {
    this.#hash.update(piece);
    this.sizeBytes += piece.length;
  }

  async *through(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      this.add(piece);
      yield piece;
    }
  }

  end(): { readonly digest: Digest; readonly sizeBytes: number } {
    return { digest: digestOfHash(this.#hash), sizeBytes: this.sizeBytes };
  }
}
