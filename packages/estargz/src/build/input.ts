import { createHash } from "node:crypto";
import { DataLossError } from "@oci-worker/errdefs";
import { decompress } from "@oci-worker/layer/compression/decompress";
import { detectCompression, magicBytes } from "@oci-worker/layer/compression/detect";
import { type Digest, digestOfHash } from "@oci-worker/oci/digest";
import { Spool } from "./spool.ts";

/** A layer as it comes, compressed or not. */
export interface LayerInput {
  readonly pieces: Iterable<Buffer> | AsyncIterable<Buffer>;
  /** Of all pieces together. */
  readonly sizeBytes: number;
}

export interface SpoolOptions {
  readonly directory?: string;
  readonly maxUnpackedBytes?: number;
  readonly diffID?: Digest;
  readonly signal?: AbortSignal;
}

/**
 * Decompresses and takes apart a layer. The caller disposes of what it gives.
 *
 * @throws {InvalidArgumentError} if it is corrupt, cut short or followed by something else.
 * @throws {DataLossError} if it is not what its diffID says.
 */
export async function spoolLayer({ pieces, sizeBytes }: LayerInput, options: SpoolOptions): Promise<Spool> {
  using undo = new DisposableStack();
  const spool = undo.use(new Spool(options.directory, options.maxUnpackedBytes));
  const hash = options.diffID === undefined ? undefined : createHash("sha256");
  for await (const piece of archivePieces(pieces, sizeBytes)) {
    options.signal?.throwIfAborted();
    hash?.update(piece);
    spool.write(piece);
  }
  spool.end();
  if (hash !== undefined) {
    requireDiffID(digestOfHash(hash), options.diffID);
  }
  undo.move();
  return spool;
}

function requireDiffID(diffID: Digest, wanted: Digest | undefined): void {
  if (diffID !== wanted) {
    throw new DataLossError(`Cannot build layer: decompressed it has digest ${diffID}, want ${wanted}`);
  }
}

async function* archivePieces(pieces: LayerInput["pieces"], sizeBytes: number): AsyncGenerator<Buffer> {
  const source = Symbol.asyncIterator in pieces ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]();
  let start: Buffer = Buffer.alloc(0);
  while (start.length < magicBytes) {
    const next = await source.next();
    if (next.done === true) {
      break;
    }
    start = Buffer.concat([start, next.value]);
  }
  async function* all() {
    yield start;
    for (let next = await source.next(); next.done !== true; next = await source.next()) {
      yield next.value;
    }
  }
  const compression = detectCompression(start);
  yield* compression === "none" ? all() : decompress(compression, all(), sizeBytes);
}
