import { createHash } from "node:crypto";
import { DataLossError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { type Digest, digestOfHash } from "@oci-worker/oci/digest";
import { TarReader } from "../tar/reader.ts";
import { archivePieces } from "./archive-pieces.ts";
import type { BlobReader } from "./blob-reader.ts";
import type { Progress, Task } from "./messages.ts";
import type { Unpacker } from "./unpacker.ts";

/** How often progress is told. */
const progressIntervalMs = 100;

/**
 * Decompresses `blob`, hashes what comes out to its very end, trailing bytes after the archive included, and unpacks it.
 *
 * @throws {DataLossError} if it is not what `task.diffId` says.
 * @throws {ResourceExhaustedError} if it is more than `task.maxUnpackedBytes`.
 */
export async function unpackBlob(
  task: Task,
  blob: BlobReader,
  unpacker: Unpacker,
  checkpoint: () => void,
  onProgress: (progress: Progress) => void,
): Promise<{ diffId: Digest; uncompressedBytes: number }> {
  // An uncompressed layer is its own content: one hash is enough.
  const hash = task.compression === "none" ? undefined : createHash("sha256");
  const reader = new TarReader(unpacker);
  let uncompressedBytes = 0;
  let toldAt = performance.now();
  // A blob of no bytes is an empty layer, though it is no archive of any kind.
  for await (const piece of archivePieces(task, blob, checkpoint)) {
    checkpoint();
    uncompressedBytes += piece.length;
    if (uncompressedBytes > task.maxUnpackedBytes) {
      throw new ResourceExhaustedError(
        `it unpacks to more than ${task.maxUnpackedBytes} bytes, the most that is allowed`,
      );
    }
    hash?.update(piece);
    reader.write(piece);
    if (performance.now() - toldAt >= progressIntervalMs) {
      toldAt = performance.now();
      onProgress({ readBytes: blob.readBytes, entries: unpacker.entries });
    }
  }
  reader.end();
  const diffId = hash === undefined ? blob.digest(checkpoint) : digestOfHash(hash);
  if (diffId !== task.diffId) {
    throw new DataLossError(`its content has diffID ${diffId}, want ${task.diffId}`);
  }
  return { diffId, uncompressedBytes };
}
