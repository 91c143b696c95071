import type { Allowance } from "./allowance.ts";
import type { Outbox } from "./outbox.ts";
import type { PeerSettings } from "./peer-settings.ts";
import { defaultWindowBytes, maxWindowBytes } from "./protocol.ts";
import type { ServerStream } from "./server-stream.ts";

/** A client may answer a frame of content with so many that carry nothing: windows, and pings that measure the line. */
const answersPerFrame = 4;

/**
 * Sends what streams have queued, as far as the windows of the peer and the speed at which it reads allow. Streams that
 * could send take turns, a frame each.
 */
export class ContentSender {
  readonly #outbox: Outbox;
  readonly #settings: PeerSettings;
  readonly #idleFrames: Allowance;
  /** What the peer still takes on all streams together. */
  #window = defaultWindowBytes;
  /** Streams that would send if the connection did. */
  readonly #ready = new Set<ServerStream>();

  constructor(outbox: Outbox, settings: PeerSettings, idleFrames: Allowance) {
    this.#outbox = outbox;
    this.#settings = settings;
    this.#idleFrames = idleFrames;
  }

  /** Sends what it can of the queue of `stream` now, and the rest when it can. */
  add(stream: ServerStream): void {
    if (this.#ready.size === 0) {
      while (this.#canSend && isReady(stream)) {
        this.#sendFrame(stream);
      }
    }
    if (isReady(stream)) {
      this.#ready.add(stream);
      this.resume();
    }
  }

  /** The stream has nothing to send any more. */
  remove(stream: ServerStream): void {
    this.#ready.delete(stream);
  }

  /** Goes on, after something has changed that may have held it up. */
  resume(): void {
    while (this.#canSend) {
      const { value: stream } = this.#ready.values().next();
      if (stream === undefined) {
        return;
      }
      do {
        this.#sendFrame(stream);
      } while (this.#canSend && isReady(stream) && this.#ready.size === 1);
      // To the end of the line, if it has more.
      this.#ready.delete(stream);
      if (isReady(stream)) {
        this.#ready.add(stream);
      }
    }
  }

  /**
   * The peer takes so many bytes more on all streams together.
   *
   * @returns false if that is more than a window can be.
   */
  openWindow(bytes: number): boolean {
    this.#window += bytes;
    return this.#window <= maxWindowBytes;
  }

  get #canSend(): boolean {
    return this.#window > 0 && !this.#outbox.isCongested;
  }

  #sendFrame(stream: ServerStream): void {
    const bytes = stream.queue[0];
    if (bytes === undefined || stream.sendWindow <= 0) {
      return;
    }
    const start = stream.queueOffset;
    const length = Math.min(bytes.length - start, this.#settings.frameBytes, this.#window, stream.sendWindow);
    this.#idleFrames.earn(answersPerFrame);
    this.#window -= length;
    stream.sendWindow -= length;
    this.#outbox.data(stream.id, bytes, start, start + length);
    if (start + length === bytes.length) {
      stream.queue.shift();
      stream.queueOffset = 0;
    } else {
      stream.queueOffset = start + length;
    }
    stream.sentSome(length);
  }
}

function isReady(stream: ServerStream): boolean {
  return stream.queue.length > 0 && stream.sendWindow > 0;
}
