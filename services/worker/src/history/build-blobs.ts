import { digestOf } from "@oci-worker/oci/digest";
import type { CacheRecords } from "../cache/records.ts";
import type { ContentStore } from "../content/store.ts";
import type { ProgressEvent } from "../solver/progress.ts";
import type { BuildBlob, BuildRecord } from "./build-record.ts";

/** What a blob with the progress of a build says that it is. */
const logsMediaType = "application/vnd.buildkit.status.v0";

export interface BuildBlobsParts {
  readonly content: ContentStore;
  /** Keeps the blobs of builds. */
  readonly records: Pick<CacheRecords, "holdBlob" | "releaseBlob" | "needsBlob">;
  /** Progress as clients are sent it, one length-prefixed message after the other. */
  readonly encodeProgress: (events: readonly ProgressEvent[]) => Uint8Array;
}

/** The blobs of remembered builds: there as long as the builds are. */
export class BuildBlobs {
  readonly #parts: BuildBlobsParts;

  constructor(parts: BuildBlobsParts) {
    this.#parts = parts;
  }

  /** Stores the progress of a build. Its blob is kept from now on. */
  async store(events: readonly ProgressEvent[], signal: AbortSignal): Promise<BuildBlob> {
    const { content, records, encodeProgress } = this.#parts;
    const bytes = encodeProgress(events);
    const blob = { mediaType: logsMediaType, digest: digestOf(bytes), sizeBytes: bytes.length };
    records.holdBlob(blob.digest);
    const only = async function* () {
      yield bytes;
    };
    try {
      await content.write(
        { ...blob, isLocal: true },
        () => Promise.resolve(only()),
        () => undefined,
        signal,
      );
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

export function blobsOf({ logs, result }: BuildRecord): BuildBlob[] {
  return [logs, result].filter((blob) => blob !== undefined);
}
