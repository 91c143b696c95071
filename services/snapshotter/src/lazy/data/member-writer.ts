import { decompressMember, decompressMemberElsewhere, verifiedChunk } from "@oci-worker/estargz/chunk";
import type { Compression } from "./layer-chunks.ts";
import type { OtherLayers } from "./layer-fetcher.ts";
import type { LayerFile } from "./layer-file.ts";
import type { Member } from "./members.ts";

/**
 * What is at least so large decompressed takes a millisecond and more, in which others would wait; the way to another thread
 * and back takes a tenth of that.
 */
const elsewhereBytes = 256 * 1024;

/** Puts members of a layer's blob into its file: decompressed, and each chunk of them checked. */
export class MemberWriter {
  readonly #file: LayerFile;
  readonly #others: Pick<OtherLayers, "makeRoom" | "added">;

  constructor(file: LayerFile, others: Pick<OtherLayers, "makeRoom" | "added">) {
    this.#file = file;
    this.#others = others;
  }

  /** Puts all chunks of `member` that are good into the file. @throws {DataLossError} if one is not. */
  put({ chunks }: Member, compressed: Buffer): void {
    const missing = this.#missing(chunks);
    this.#write(missing, decompressMember(this.#compression, compressed, this.#endOf(missing)));
  }

  /** The same, with what is large decompressed by another thread. */
  async putSoon({ chunks }: Member, compressed: Buffer): Promise<void> {
    const missing = this.#missing(chunks);
    const wantedBytes = this.#endOf(missing);
    this.#write(
      missing,
      wantedBytes < elsewhereBytes
        ? decompressMember(this.#compression, compressed, wantedBytes)
        : await decompressMemberElsewhere(this.#compression, compressed, wantedBytes),
    );
  }

  get #compression(): Compression {
    return this.#file.content.compression;
  }

  #missing(chunks: readonly number[]): number[] {
    return chunks.filter((chunk) => !this.#file.isVerified(chunk));
  }

  /** How much of their member there has to be for `chunks`. */
  #endOf(chunks: readonly number[]): number {
    const ends = chunks.map((each) => {
      const { innerOffset = 0, sizeBytes = 0 } = this.#file.content.chunks[each]?.chunk ?? {};
      return innerOffset + sizeBytes;
    });
    return Math.max(0, ...ends);
  }

  /** @param chunks of those that were missing; some may have come otherwise meanwhile. */
  #write(chunks: readonly number[], plain: Buffer): void {
    let wrong: unknown;
    for (const each of this.#missing(chunks)) {
      const placed = this.#file.content.chunks[each];
      if (placed === undefined) {
        continue;
      }
      let bytes: Buffer;
      try {
        bytes = verifiedChunk(placed.chunk, plain);
      } catch (error) {
        wrong ??= error;
        continue;
      }
      this.#others.makeRoom(this.#file.roomOf(each));
      this.#file.put(each, bytes);
      this.#others.added(this.#file, each);
    }
    if (wrong !== undefined) {
      throw wrong;
    }
  }
}
