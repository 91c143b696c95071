import { answerRead, readReply, readReplyHeaderBytes } from "@oci-worker/fuse/device";
import { errno } from "@oci-worker/fuse/errno";
import type { MissedRead } from "../device/missed-read.ts";
import { firstChunkBehind } from "../device/shared-layer.ts";
import type { LayerFetcher } from "./layer-fetcher.ts";

/** How often what a read wants may be given up for others before the read is: the quota is too small for it then. */
const maxTries = 10;

/** Reads of the kernel that wait for something to be fetched. Each is answered once: with content, EIO or EINTR. */
export class WaitingReads {
  readonly #fd: number;
  readonly #fetcherOf: (layer: number) => LayerFetcher | undefined;
  readonly #onFailure: (layer: number, error: Error) => void;
  readonly #waiting = new Set<bigint>();
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

  async answer({ layer, offset, size, unique }: MissedRead): Promise<void> {
    if (this.#isClosed) {
      return;
    }
    this.#waiting.add(unique);
    let [reply, result] = [readReply(0), -errno.EIO as number];
    try {
      const fetcher = this.#fetcherOf(layer);
      if (fetcher !== undefined) {
        reply = readReply(size);
        result = await this.#read(fetcher, offset, size, reply);
      }
    } catch (error) {
      this.#onFailure(layer, error as Error);
    }
    if (this.#waiting.delete(unique)) {
      answerRead(this.#fd, unique, reply, result);
    }
  }

  /** Whoever waits for `unique` has been sent a signal. What is fetched for them is fetched all the same. */
  interrupt(unique: bigint): void {
    if (this.#waiting.delete(unique)) {
      answerRead(this.#fd, unique, readReply(0), -errno.EINTR);
    }
  }

  /** Answers nothing any more: the descriptor may be another file's soon. */
  close(): void {
    this.#isClosed = true;
    this.#waiting.clear();
  }

  async #read(fetcher: LayerFetcher, offset: number, size: number, reply: Buffer): Promise<number> {
    const { file } = fetcher;
    const wanted = Math.max(0, Math.min(size, file.shared.deviceBytes - offset));
    for (let tries = 0; tries < maxTries; tries += 1) {
      const missing = [...chunksIn(fetcher, offset, offset + wanted)].filter(
        (chunk) => !file.isVerified(chunk),
      );
      if (missing.length === 0) {
        // Nothing can be given up before this returns.
        const read = file.read(offset, wanted, reply, readReplyHeaderBytes);
        return read === wanted ? read : -errno.EIO;
      }
      await Promise.all(missing.map((chunk) => fetcher.ensure(chunk, "demand")));
    }
    throw new Error(`Cannot keep ${size} bytes at once: the quota of the cache is too small`);
  }
}

function* chunksIn({ file }: LayerFetcher, offset: number, end: number): Generator<number> {
  const { starts } = file.shared;
  for (let chunk = firstChunkBehind(file.shared, offset); (starts[chunk] ?? end) < end; chunk += 1) {
    yield chunk;
  }
}
