import { digestOf } from "@oci-worker/oci/digest";
import type { CacheRecords } from "../cache/records.ts";
import type { ContentStore } from "../content/store.ts";
import type { ProgressEvent } from "../solver/progress.ts";
import type { BuildBlob, BuildRecord } from "./build-record.ts";

/** What the blobs say that they are, in upstream's spelling, the slip in it included. */
const mediaTypes = {
  logs: "application/vnd.buildkit.status.v0",
  externalError: "application/vnd.googeapis.google.rpc.status+proto",
  trace: "application/vnd.buildkit.otlp.json.v0",
} as const;

export interface BuildBlobsParts {
  readonly content: ContentStore;
  /** Keeps the blobs of builds. */
  readonly records: Pick<CacheRecords, "holdBlob" | "releaseBlob" | "needsBlob">;
  /** Progress as clients are sent it, one length-prefixed message after the other. */
  readonly encodeProgress: (events: readonly ProgressEvent[]) => Uint8Array;
  /** What clients are told of the failure of a build. */
  readonly encodeError: (error: unknown) => Uint8Array;
}

/** The blobs of remembered builds: there as long as the builds are. */
export class BuildBlobs {
  readonly #parts: BuildBlobsParts;

  constructor(parts: BuildBlobsParts) {
    this.#parts = parts;
  }

  storeLogs(events: readonly ProgressEvent[], signal: AbortSignal): Promise<BuildBlob> {
    return this.#store(mediaTypes.logs, this.#parts.encodeProgress(events), signal);
  }

  /** Stores why a build has failed. */
  storeError(error: unknown, signal: AbortSignal): Promise<BuildBlob> {
    return this.#store(mediaTypes.externalError, this.#parts.encodeError(error), signal);
  }

  /** @param text a line for each span. */
  storeTrace(text: string, signal: AbortSignal): Promise<BuildBlob> {
    return this.#store(mediaTypes.trace, Buffer.from(text), signal);
  }

  /** Stores what is remembered of a build. Its blob is kept from now on. */
  async #store(mediaType: string, bytes: Uint8Array, signal: AbortSignal): Promise<BuildBlob> {
    const { content, records } = this.#parts;
    const blob = { mediaType, digest: digestOf(bytes), sizeBytes: bytes.length };
    records.holdBlob(blob.digest);
    try {
      await content.writeBytes(blob.digest, bytes, signal);
    } catch (error) {
      records.releaseBlob(blob.digest);
      throw error;
    }
    return blob;
  }

  /** Keeps the blobs of a record. */
  hold(blobs: readonly BuildBlob[]): void {
    for (const { digest } of blobs) {
      this.#parts.records.holdBlob(digest);
    }
  }

  /** The blobs of a record are not needed by it any more, and removed if nothing else needs them. */
  async release(blobs: readonly BuildBlob[]): Promise<void> {
    const { content, records } = this.#parts;
    for (const { digest } of blobs) {
      records.releaseBlob(digest);
      if (!records.needsBlob(digest)) {
        await content.delete(digest);
      }
    }
  }
}

export function blobsOf({ externalError, logs, result, trace }: BuildRecord): BuildBlob[] {
  return [externalError, logs, result, trace].filter((blob) => blob !== undefined);
}
