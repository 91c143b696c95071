import { DataLossError } from "@oci-worker/errdefs";

/** A blob that can be read in parts, such as one in a registry. */
export interface PartialBlob {
  /** The last `maxBytes` of it, or all if it has fewer; and how many it has. */
  readTail(maxBytes: number): Promise<{ tail: Buffer; blobBytes: number }>;
  /** Exactly `sizeBytes` from `offset` on. */
  read(offset: number, sizeBytes: number): Promise<Buffer>;
}

/** A blob of a size that is known, as from its descriptor. `read` is that of {@link PartialBlob}. */
export function sizedBlob(blobBytes: number, read: PartialBlob["read"]): PartialBlob {
  return {
    read,
    async readTail(maxBytes) {
      const sizeBytes = Math.min(maxBytes, blobBytes);
      return { tail: await read(blobBytes - sizeBytes, sizeBytes), blobBytes };
    },
  };
}

/** A blob in memory. */
export function blobInMemory(bytes: Buffer): PartialBlob {
  return sizedBlob(bytes.length, async (offset, sizeBytes) => bytes.subarray(offset, offset + sizeBytes));
}

/** @throws {DataLossError} if `bytes` are not as many as were asked for. */
export function requireBytes(bytes: Buffer, sizeBytes: number, what: string): Buffer {
  if (bytes.length !== sizeBytes) {
    throw new DataLossError(`Cannot read ${what}: there are ${bytes.length} bytes, want ${sizeBytes}`);
  }
  return bytes;
}
