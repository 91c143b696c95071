import { readSync } from "node:fs";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { offsetOf } from "@oci-worker/libc/file";
import { decompress } from "../compression/decompress.ts";
import { BlobReader } from "./blob-reader.ts";
import { programEndAt, programEnds, type Task } from "./messages.ts";

/** What a pipe from a program yields at once. */
const pieceBytes = 1024 * 1024;

/**
 * The archive in `blob`, decompressed, in pieces that are valid until the next one is asked for.
 *
 * @throws {InvalidArgumentError} if the blob is corrupt, cut short, or followed by something else.
 */
export async function* archivePieces(
  task: Task,
  blob: BlobReader,
  checkpoint: () => void,
): AsyncGenerator<Buffer> {
  if (task.compression === "none") {
    for (let piece = blob.next(); piece.length > 0; piece = blob.next()) {
      yield piece;
    }
  } else if (task.archiveFd === undefined) {
    yield* decompress(task.compression, blob.pieces(), task.sizeBytes);
  } else {
    yield* programPieces(task, task.archiveFd, blob, checkpoint);
  }
}

async function* programPieces(
  task: Task,
  archiveFd: number,
  blob: BlobReader,
  checkpoint: () => void,
): AsyncGenerator<Buffer> {
  const piece = Buffer.allocUnsafe(pieceBytes);
  let totalBytes = 0;
  for (let length = readSync(archiveFd, piece); length > 0; length = readSync(archiveFd, piece)) {
    totalBytes += length;
    // The program reads by the same descriptor, so its offset says how far; the blob's hash follows it.
    blob.readTo(offsetOf(task.blobFd), checkpoint);
    yield piece.subarray(0, length);
  }
  // Its output ends just before the program does.
  Atomics.wait(task.shared, programEndAt, 0);
  checkpoint();
  switch (Atomics.load(task.shared, programEndAt)) {
    case programEnds.failed:
      throw new InvalidArgumentError(`Cannot decompress ${task.compression}: it is corrupt or cut short`);
    case programEnds.killed:
      throw new Error(`Cannot decompress ${task.compression}: the program that does it has been killed`);
  }
  if (task.compression === "gzip" && blob.lastNumber(task.sizeBytes) !== totalBytes % 2 ** 32) {
    await checkMembers(task, checkpoint);
  }
}

/**
 * Reads a gzip once more for what igzip does not check: that nothing follows its last member.
 *
 * A gzip of one member ends with the size of its content (RFC 1952, 2.3.1), which has been looked at. This one is of
 * several, which few programs make, or it is followed by something else.
 */
async function checkMembers(task: Task, checkpoint: () => void): Promise<void> {
  const again = new BlobReader(task.blobFd);
  for await (const _piece of decompress("gzip", again.pieces(), task.sizeBytes)) {
    checkpoint();
  }
}
