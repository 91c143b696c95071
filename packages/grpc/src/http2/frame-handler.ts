import { Allowance } from "./allowance.ts";
import { ContentSender } from "./content-sender.ts";
import type { FrameSink } from "./frame-reader.ts";
import { checkFrame } from "./frame-rules.ts";
import { type HeaderBlock, HeaderBlocks, maxHeaderListBytes } from "./header-blocks.ts";
import type { Outbox } from "./outbox.ts";
import { PeerSettings } from "./peer-settings.ts";
import {
  ConnectionError,
  defaultWindowBytes,
  ErrorCode,
  Flag,
  FrameType,
  Setting,
  uint31,
} from "./protocol.ts";
import { maxStreams, RequestStreams, streamWindowBytes } from "./request-streams.ts";
import type { ServerStream } from "./server-stream.ts";

/** What a client may send on all streams together before it is told more. */
const connectionWindowBytes = 16 * 1024 * 1024;

/** Frames that carry nothing: pings, settings, windows, content without a byte. Go's client sends some with every call. */
const idleFrames = { burst: 10_000, perSecond: 1000 };

/** Told of what concerns the connection as a whole. */
export interface FrameEvents {
  /** Takes a request. It sets the stream's sink at once. */
  readonly onStream: (stream: ServerStream) => void;
  /** The last open stream is closed. */
  readonly onIdle: () => void;
  /** The client has said its settings, which come first. */
  readonly onGreeting: () => void;
  /** The client has answered a ping of ours, whose eight bytes `bytes` has at `start`. */
  readonly onPong: (bytes: Buffer, start: number) => void;
}

/**
 * Does what the frames of a client ask for: answers pings, heeds settings and windows, and hands the rest to the streams.
 * What a client must not do, or not so often, ends the connection.
 */
export class FrameHandler implements FrameSink {
  readonly streams: RequestStreams;
  readonly #outbox: Outbox;
  readonly #events: FrameEvents;
  readonly #blocks = new HeaderBlocks();
  readonly #settings = new PeerSettings();
  readonly #idleFrames = new Allowance(idleFrames.burst, idleFrames.perSecond);
  readonly #sender: ContentSender;
  #isGreeted = false;
  #receiveWindow = connectionWindowBytes;
  #unannounced = 0;

  constructor(outbox: Outbox, events: FrameEvents) {
    this.#outbox = outbox;
    this.#events = events;
    this.#sender = new ContentSender(outbox, this.#settings, this.#idleFrames);
    this.streams = new RequestStreams({
      outbox,
      settings: this.#settings,
      sender: this.#sender,
      blocks: this.#blocks,
      onStream: events.onStream,
      onIdle: events.onIdle,
    });
  }

  /** Says what a server says first. */
  greet(): void {
    this.#outbox.settings([
      [Setting.maxConcurrentStreams, maxStreams],
      [Setting.initialWindowSize, streamWindowBytes],
      [Setting.maxHeaderListSize, maxHeaderListBytes],
    ]);
    this.#outbox.windowUpdate(0, connectionWindowBytes - defaultWindowBytes);
  }

  /** Sends on: there is room again. */
  resume(): void {
    this.#sender.resume();
  }

  onData(streamID: number, content: Buffer, charged: number, isLast: boolean): void {
    this.#expect(FrameType.data, streamID, content.length);
    this.#receiveWindow -= charged;
    if (this.#receiveWindow < 0) {
      throw new ConnectionError(ErrorCode.flowControlError, "the window of the connection is used up");
    }
    this.#reopenConnection(charged);
    if (content.length === 0 && !isLast) {
      this.#spendIdle();
    }
    this.streams.onData(streamID, content, charged, isLast);
  }

  onFrame(type: number, flags: number, streamID: number, bytes: Buffer, start: number, end: number): void {
    this.#expect(type, streamID, end - start);
    switch (type) {
      case FrameType.headers:
        this.#onBlock(this.#blocks.begin(flags, streamID, bytes, start, end));
        break;
      case FrameType.continuation:
        this.#onBlock(this.#blocks.proceed(flags, streamID, bytes, start, end));
        break;
      case FrameType.rstStream:
        this.streams.onReset(streamID);
        break;
      case FrameType.settings:
        this.#onSettings(flags, bytes, start, end);
        break;
      case FrameType.ping:
        this.#onPing(flags, bytes, start);
        break;
      case FrameType.windowUpdate:
        this.#onWindowUpdate(streamID, uint31(bytes, start));
        break;
      default:
        // PRIORITY is heeded by nobody, GOAWAY of a client speaks of pushes, and unknown types are to be left alone.
        this.#spendIdle();
    }
  }

  /** What holds for every frame, whatever is in it (RFC 9113, sections 3.4, 4.3 and 5.1). */
  #expect(type: number, streamID: number, length: number): void {
    if (!this.#isGreeted && type !== FrameType.settings) {
      throw new ConnectionError(ErrorCode.protocolError, "the first frame is not SETTINGS");
    }
    if (this.#blocks.isPartial && type !== FrameType.continuation) {
      throw new ConnectionError(ErrorCode.protocolError, "a header block is interrupted");
    }
    checkFrame(type, streamID, length);
    const isOfKnownStream =
      streamID === 0 || type === FrameType.priority || this.streams.mayConcern(streamID);
    if (!isOfKnownStream && type <= FrameType.windowUpdate && type !== FrameType.headers) {
      throw new ConnectionError(ErrorCode.protocolError, `stream ${streamID} has not begun`);
    }
  }

  #onBlock(block: HeaderBlock | undefined): void {
    if (block !== undefined) {
      this.streams.onBlock(block);
    }
  }

  #onSettings(flags: number, bytes: Buffer, start: number, end: number): void {
    if ((flags & Flag.ack) !== 0) {
      if (!this.#isGreeted) {
        throw new ConnectionError(ErrorCode.protocolError, "the first frame is not SETTINGS");
      }
      if (end > start) {
        throw new ConnectionError(
          ErrorCode.frameSizeError,
          "SETTINGS are acknowledged with something inside",
        );
      }
      return;
    }
    this.#spendIdle();
    const before = this.#settings.initialWindowBytes;
    this.#settings.apply(bytes, start, end);
    this.#outbox.frameBytes = this.#settings.frameBytes;
    this.#outbox.settingsAck();
    if (!this.#isGreeted) {
      this.#isGreeted = true;
      this.#events.onGreeting();
    }
    this.streams.changeWindows(this.#settings.initialWindowBytes - before);
  }

  #onPing(flags: number, bytes: Buffer, start: number): void {
    this.#spendIdle();
    if ((flags & Flag.ack) === 0) {
      this.#outbox.ping(Flag.ack, bytes, start);
    } else {
      this.#events.onPong(bytes, start);
    }
  }

  #onWindowUpdate(streamID: number, increment: number): void {
    this.#spendIdle();
    if (streamID !== 0) {
      this.streams.openWindow(streamID, increment);
      return;
    }
    if (increment === 0) {
      throw new ConnectionError(ErrorCode.protocolError, "a window is opened by nothing");
    }
    if (!this.#sender.openWindow(increment)) {
      throw new ConnectionError(ErrorCode.flowControlError, "the window of the connection is too large");
    }
    this.#sender.resume();
  }

  #spendIdle(): void {
    if (!this.#idleFrames.spend()) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, "too many frames carry nothing");
    }
  }

  #reopenConnection(bytes: number): void {
    this.#unannounced += bytes;
    if (this.#unannounced >= connectionWindowBytes / 2) {
      this.#outbox.windowUpdate(0, this.#unannounced);
      this.#receiveWindow += this.#unannounced;
      this.#unannounced = 0;
    }
  }
}
