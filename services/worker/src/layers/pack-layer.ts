import { createReadStream } from "node:fs";
import { DataLossError } from "@oci-worker/errdefs";
import { buildLayer } from "@oci-worker/estargz/build";
import { type CompressedArchive, compressArchive } from "@oci-worker/layer/compression/compress";
import { decompress } from "@oci-worker/layer/compression/decompress";
import { type Compression, detectCompression, magicBytes } from "@oci-worker/layer/compression/detect";
import { layerArchive } from "@oci-worker/layer/layer-archive";
import type { LayerFormat } from "./layer-blob.ts";
import type { LayerSource, LayerTask, WrittenLayer } from "./layer-messages.ts";

/** What is read of a blob at once. */
const pieceBytes = 1024 * 1024;

const compressionOf = {
  uncompressed: "none",
  gzip: "gzip",
  zstd: "zstd",
} as const satisfies Record<Exclude<LayerFormat, "estargz">, Compression>;

/**
 * Makes a layer in the wanted format and gives it to `sink` piece by piece.
 *
 * @throws {InexpressibleError} if it cannot be one of eStargz.
 * @throws {DataLossError} if the blob that it is made of is not what its diffID says.
 */
export async function packLayer(
  { source, format, level, directory }: Omit<LayerTask, "targetFd">,
  sink: (bytes: Buffer) => Promise<void>,
): Promise<WrittenLayer> {
  if (format === "estargz") {
    const input = { pieces: inputOf(source), sizeBytes: source.kind === "blob" ? source.sizeBytes : 0 };
    const wanted = source.kind === "blob" ? { diffID: source.diffID } : {};
    return await buildLayer(input, sink, { directory, ...(level !== undefined && { level }), ...wanted });
  }
  const written = await compressArchive(archiveOf(source), compressionOf[format], level, sink);
  requireSame(source, written);
  return { ...written, annotations: {} };
}

/** The archive, or what it comes compressed as. */
async function* inputOf(source: LayerSource): AsyncGenerator<Buffer> {
  if (source.kind === "blob") {
    yield* createReadStream(source.path, { highWaterMark: pieceBytes });
    return;
  }
  for await (const piece of layerArchive(source.trees, new AbortController().signal)) {
    yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  }
}

async function* archiveOf(source: LayerSource): AsyncGenerator<Buffer> {
  if (source.kind === "trees") {
    yield* inputOf(source);
    return;
  }
  const start: Buffer[] = [];
  for await (const piece of createReadStream(source.path, { end: magicBytes - 1 })) {
    start.push(piece);
  }
  const compression = detectCompression(Buffer.concat(start));
  const pieces = inputOf(source);
  yield* compression === "none" ? pieces : decompress(compression, pieces, source.sizeBytes);
}

function requireSame(source: LayerSource, { diffID }: CompressedArchive): void {
  if (source.kind === "blob" && diffID !== source.diffID) {
    throw new DataLossError(
      `Cannot convert layer: uncompressed it has digest ${diffID}, want ${source.diffID}`,
    );
  }
}
