import { answerRead, readReply, readReplyHeaderBytes } from "@oci-worker/fuse/device";
import { errno } from "@oci-worker/fuse/errno";
import type { MissedRead } from "../device/missed-read.ts";
import { firstChunkBehind } from "../device/shared-layer.ts";
import type { LayerFetcher } from "./layer-fetcher.ts";

/** How often what a read wants may be given up for others before it is wanted piece by piece, and then each piece. */
const maxTries = 10;

/** Reads of the kernel that wait for something to be fetched. Each is answered once: with content, EIO or EINTR. */
export class WaitingReads {
  readonly #fd: number;
  readonly #fetcherOf: (layer: number) => LayerFetcher | undefined;
  readonly #onFailure: (layer: number, error: Error) => void;
  readonly #waiting = new Set<bigint>();
  /** For all reads: it is filled when what somebody waits for is there, and empty again at once. */
  #reply = readReply(0);
  #isClosed = false;

  /** @param fd the FUSE device. */
  constructor(
    fd: number,
    fetcherOf: (layer: number) => LayerFetcher | undefined,
    onFailure: (layer: number, error: Error) => void,
  ) {
    this.#fd = fd;
    this.#fetcherOf = fetcherOf;
    this.#onFailure = onFailure;
  }

  async answer(read: MissedRead): Promise<void> {
    const { layer, unique } = read;
    if (this.#isClosed) {
      return;
    }
    this.#waiting.add(unique);
    try {
      const fetcher = this.#fetcherOf(layer);
      if (fetcher !== undefined) {
        await this.#give(fetcher, read);
      }
    } catch (error) {
      this.#onFailure(layer, error as Error);
    }
    // Nothing if it has been given.
    this.#refuse(unique, errno.EIO);
  }

  /** Whoever waits for `unique` has been sent a signal. What is fetched for them is fetched all the same. */
  interrupt(unique: bigint): void {
    this.#refuse(unique, errno.EINTR);
  }

  /** Answers nothing any more: the descriptor may be another file's soon. */
  close(): void {
    this.#isClosed = true;
    this.#waiting.clear();
  }

  /** Answers with content when all of it is there, unless it cannot be read. */
  async #give(fetcher: LayerFetcher, { offset, size, unique }: MissedRead): Promise<void> {
    const { file } = fetcher;
    const wanted = Math.max(0, Math.min(size, file.shared.deviceBytes - offset));
    for (let tries = 0; tries < maxTries; tries += 1) {
      const missing = [...chunksIn(fetcher, offset, offset + wanted)].filter(
        (chunk) => !file.isVerified(chunk),
      );
      if (missing.length === 0) {
        // Nothing can be given up, nor another read be answered, before this returns.
        const reply = this.#replyOf(wanted);
        const read = file.read(offset, wanted, reply, readReplyHeaderBytes);
        if (read === wanted) {
          this.#send(unique, reply, read);
        }
        return;
      }
      await Promise.all(missing.map((chunk) => fetcher.ensure(chunk, "demand")));
    }
    await this.#givePieces(fetcher, { offset, wanted, unique });
  }

  /** Reads one chunk after the other, where the quota of the cache is too small for all of them at once. */
  async #givePieces(
    fetcher: LayerFetcher,
    { offset, wanted, unique }: { readonly offset: number; readonly wanted: number; readonly unique: bigint },
  ): Promise<void> {
    const { file } = fetcher;
    const reply = readReply(wanted);
    const [first, ...others] = chunksIn(fetcher, offset, offset + wanted);
    const ends = [...others.map((chunk) => file.shared.starts[chunk] ?? 0), offset + wanted];
    let at = offset;
    for (const [index, chunk] of [first ?? 0, ...others].entries()) {
      await this.#ensure(fetcher, chunk);
      // And what is between it and the next.
      const sizeBytes = (ends[index] ?? at) - at;
      if (file.read(at, sizeBytes, reply, readReplyHeaderBytes + at - offset) !== sizeBytes) {
        return;
      }
      at += sizeBytes;
    }
    this.#send(unique, reply, wanted);
  }

  async #ensure(fetcher: LayerFetcher, chunk: number): Promise<void> {
    for (let tries = 0; tries < maxTries; tries += 1) {
      await fetcher.ensure(chunk, "demand");
      if (fetcher.file.isVerified(chunk)) {
        return;
      }
    }
    throw new Error("Cannot keep a chunk until it is read: the quota of the cache is too small");
  }

  #send(unique: bigint, reply: Buffer, sizeBytes: number): void {
    if (this.#waiting.delete(unique)) {
      answerRead(this.#fd, unique, reply, sizeBytes);
    }
  }

  #refuse(unique: bigint, code: number): void {
    if (this.#waiting.delete(unique)) {
      answerRead(this.#fd, unique, readReply(0), -code);
    }
  }

  /** Room for so many bytes. */
  #replyOf(sizeBytes: number): Buffer {
    if (this.#reply.length < readReplyHeaderBytes + sizeBytes) {
      this.#reply = readReply(sizeBytes);
    }
    return this.#reply;
  }
}

function* chunksIn({ file }: LayerFetcher, offset: number, end: number): Generator<number> {
  const { starts } = file.shared;
  for (let chunk = firstChunkBehind(file.shared, offset); (starts[chunk] ?? end) < end; chunk += 1) {
    yield chunk;
  }
}
