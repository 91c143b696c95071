import { close, read, write } from "node:fs";
import { promisify } from "node:util";
import { DataLossError } from "@oci-worker/errdefs";
import { openNameless } from "@oci-worker/estargz/nameless-file";

const [closing, reading, writing] = [promisify(close), promisify(read), promisify(write)];

/** What is read at once. */
const pieceBytes = 256 * 1024;

/** A file that nobody else sees, and that is gone when it is disposed of or this process ends, however that ends. */
export class TemporaryFile implements AsyncDisposable {
  /** For whoever wants to read or write by itself, such as a thread. */
  readonly fd: number;

  constructor(directory: string) {
    this.fd = openNameless(directory);
  }

  async write(bytes: Buffer, position: number): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await writing(this.fd, bytes, at, bytes.length - at, position + at);
      at += bytesWritten;
    }
  }

  /**
   * The first `sizeBytes` of it.
   *
   * @param onProgress told how many have been read.
   * @throws {DataLossError} if it has not as many.
   */
  async *read(sizeBytes: number, onProgress: (bytes: number) => void): AsyncGenerator<Buffer> {
    for (let position = 0; position < sizeBytes; ) {
      const piece = Buffer.allocUnsafe(Math.min(pieceBytes, sizeBytes - position));
      const { bytesRead } = await reading(this.fd, piece, 0, piece.length, position);
      if (bytesRead === 0) {
        throw new DataLossError("Cannot read a temporary file: it has become shorter");
      }
      position += bytesRead;
      onProgress(position);
      yield piece.subarray(0, bytesRead);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closing(this.fd);
  }
}
