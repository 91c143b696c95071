import { closeSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { DataLossError, ResourceExhaustedError } from "@oci-worker/errdefs";
import type { TarEntry } from "@oci-worker/layer/tar/entry";
import { TarReader } from "@oci-worker/layer/tar/reader";
import { openNameless } from "./nameless-file.ts";

/** An entry of an archive, and where its content is kept. */
export interface SpooledEntry {
  readonly entry: TarEntry;
  /** In the spool file. */
  readonly position: number;
}

/** A hole of a file takes nothing in the layer, and has to be written out in the new one. Layers of models have some 50 GB. */
const defaultMaxUnpackedBytes = 256 * 1024 ** 3;

/**
 * Keeps the contents of an archive in a file without a name, so that they can be read again in another order.
 *
 * Holes stay holes. Calls block: for a thread that has nothing else to do.
 */
export class Spool implements Disposable {
  readonly entries: SpooledEntry[] = [];
  readonly #fd: number;
  readonly #reader: TarReader;
  #position = 0;
  #endBytes = 0;

  /**
   * @param directory where there is room for the decompressed layer; by default that for temporary files.
   * @param maxBytes of all contents, holes included.
   */
  constructor(directory: string = tmpdir(), maxBytes: number = defaultMaxUnpackedBytes) {
    this.#fd = openNameless(directory);
    this.#reader = new TarReader({
      entry: (entry) => {
        this.#position = this.#endBytes;
        this.#endBytes += entry.sizeBytes;
        if (this.#endBytes > maxBytes) {
          throw new ResourceExhaustedError(
            `Cannot convert layer: its files have more than ${maxBytes} bytes, the most that is allowed`,
          );
        }
        this.entries.push({ entry, position: this.#position });
      },
      content: (bytes, position) => this.#keep(bytes, this.#position + position),
      entryEnd: () => undefined,
    });
  }

  /** Takes the next piece of the archive. @throws {InvalidArgumentError} if that is malformed. */
  write(piece: Buffer): void {
    this.#reader.write(piece);
  }

  /** Says that there is no more of the archive. @throws {InvalidArgumentError} if it is not all there. */
  end(): void {
    this.#reader.end();
    ftruncateSync(this.#fd, this.#endBytes);
  }

  /** The bytes of a content from `position` of the file on. */
  read(position: number, sizeBytes: number): Buffer {
    const bytes = Buffer.allocUnsafe(sizeBytes);
    for (let at = 0; at < sizeBytes; ) {
      const count = readSync(this.#fd, bytes, at, sizeBytes - at, position + at);
      if (count === 0) {
        throw new DataLossError("Cannot read a spooled layer: its file has become shorter");
      }
      at += count;
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #keep(bytes: Buffer, position: number): void {
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(this.#fd, bytes, at, bytes.length - at, position + at);
    }
  }
}
