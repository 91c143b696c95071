import { Allowance } from "./allowance.ts";
import type { ContentSender } from "./content-sender.ts";
import type { HeaderBlock, HeaderBlocks } from "./header-blocks.ts";
import { emptyTable } from "./hpack/encoder.ts";
import type { Outbox } from "./outbox.ts";
import type { PeerSettings } from "./peer-settings.ts";
import { ConnectionError, ErrorCode, maxWindowBytes } from "./protocol.ts";
import { faultOfTrailers } from "./request-head.ts";
import { ServerStream, type StreamHost } from "./server-stream.ts";
import { StreamTable } from "./stream-table.ts";

/** What a client may send on a stream before it is told more: a local peer is never held up by round trips. */
export const streamWindowBytes = 1024 * 1024;

/** Calls that a client may have open at a time. More are refused in a way that makes it try again. */
export const maxStreams = 4096;

/** What the streams of a connection may hold together, incoming and outgoing, before new ones are refused. */
const maxHeldBytes = 512 * 1024 * 1024;

/** Our clients are few and trusted, and a build that is stopped cancels hundreds of calls at a time. */
const resets = { burst: 20_000, perSecond: 2000 };

const noContent = Buffer.alloc(0);

export interface RequestStreamsOptions {
  readonly outbox: Outbox;
  readonly settings: PeerSettings;
  readonly sender: ContentSender;
  readonly blocks: HeaderBlocks;
  /** Takes a request. It sets the stream's sink at once. */
  readonly onStream: (stream: ServerStream) => void;
  /** The last open stream is closed. */
  readonly onIdle: () => void;
}

/**
 * The streams of a connection: begun by header blocks, fed with content, ended by either side.
 *
 * A mistake that concerns one stream ends that stream, and too many of them the connection.
 */
export class RequestStreams implements StreamHost {
  readonly #options: RequestStreamsOptions;
  readonly #streams = new StreamTable();
  readonly #resets = new Allowance(resets.burst, resets.perSecond);
  #takesRequests = true;
  #heldBytes = 0;

  constructor(options: RequestStreamsOptions) {
    this.#options = options;
  }

  /** How many are open. */
  get count(): number {
    return this.#streams.size;
  }

  /** Of the latest request that was taken; 0 if none was. */
  get lastID(): number {
    return this.#streams.lastID;
  }

  /** Whether a frame may be about the stream `id`, unless it begins one. */
  mayConcern(id: number): boolean {
    return this.#streams.hasBegun(id) || !this.#takesRequests;
  }

  /** Leaves requests alone from now on: the client has been told that we do. */
  stop(): void {
    this.#takesRequests = false;
  }

  /** Closes all streams: nothing can be said any more. */
  closeAll(): void {
    for (const stream of this.#streams.all()) {
      this.close(stream, undefined);
    }
  }

  /** Takes a header block: of a new request, or what comes after the content of one. */
  onBlock(block: HeaderBlock): void {
    const { streamID, isLast } = block;
    if (streamID > this.#streams.lastID) {
      this.#onRequest(block);
      return;
    }
    const fields = this.#options.blocks.readFields(block);
    const stream = this.#streams.find(streamID);
    if (stream === undefined) {
      this.#onLateTrailers(streamID, isLast);
    } else if (stream.isReceived) {
      this.#fault(stream, ErrorCode.streamClosed);
    } else if (!isLast || faultOfTrailers(fields) !== undefined || !stream.receive(noContent, true)) {
      this.#fault(stream, ErrorCode.protocolError);
    }
  }

  /** Takes content, of which `charged` bytes of the stream's window are used up. */
  onData(streamID: number, content: Buffer, charged: number, isLast: boolean): void {
    const stream = this.#streams.find(streamID);
    if (stream === undefined || stream.isReceived) {
      this.#onLateData(streamID, stream, isLast);
      return;
    }
    stream.receiveWindow -= charged;
    if (stream.receiveWindow < 0) {
      this.#fault(stream, ErrorCode.flowControlError);
      return;
    }
    if (charged > content.length) {
      this.reopenWindow(stream, charged - content.length);
    }
    if (!stream.receive(content, isLast)) {
      this.#fault(stream, ErrorCode.protocolError);
    }
  }

  /** The client takes back a stream. */
  onReset(streamID: number): void {
    this.#spendReset();
    this.#streams.forget(streamID);
    const stream = this.#streams.find(streamID);
    if (stream !== undefined) {
      this.close(stream, undefined);
    }
  }

  /** The client takes so many bytes more of the stream. */
  openWindow(streamID: number, bytes: number): void {
    const stream = this.#streams.find(streamID);
    if (stream === undefined) {
      return;
    }
    stream.sendWindow += bytes;
    if (bytes === 0) {
      this.#fault(stream, ErrorCode.protocolError);
    } else if (stream.sendWindow > maxWindowBytes) {
      this.#fault(stream, ErrorCode.flowControlError);
    } else {
      this.#options.sender.add(stream);
    }
  }

  /** A new initial window also holds for streams that have one already (RFC 9113, section 6.9.2). */
  changeWindows(bytes: number): void {
    if (bytes === 0) {
      return;
    }
    for (const stream of this.#streams.all()) {
      stream.sendWindow += bytes;
      if (stream.sendWindow > maxWindowBytes) {
        throw new ConnectionError(ErrorCode.flowControlError, "a setting makes a window too large");
      }
      this.#options.sender.add(stream);
    }
  }

  sendHeaders(stream: ServerStream, block: Buffer, isLast: boolean): void {
    if (this.#options.settings.wantsTableUpdate) {
      this.#options.settings.wantsTableUpdate = false;
      this.#options.outbox.headers(stream.id, Buffer.concat([emptyTable, block]), isLast);
    } else {
      this.#options.outbox.headers(stream.id, block, isLast);
    }
    if (isLast) {
      // A client that is still sending to a call that has its answer is asked to stop (RFC 9113, section 8.1).
      this.close(stream, stream.isReceived ? undefined : ErrorCode.noError);
    }
  }

  sendQueued(stream: ServerStream): void {
    this.#options.sender.add(stream);
  }

  reopenWindow(stream: ServerStream, bytes: number): void {
    stream.unannounced += bytes;
    if (stream.unannounced >= streamWindowBytes / 2) {
      this.#options.outbox.windowUpdate(stream.id, stream.unannounced);
      stream.receiveWindow += stream.unannounced;
      stream.unannounced = 0;
    }
  }

  hold(bytes: number): void {
    this.#heldBytes += bytes;
  }

  close(stream: ServerStream, code: ErrorCode | undefined): void {
    if (!this.#streams.remove(stream)) {
      return;
    }
    if (code !== undefined) {
      this.#options.outbox.reset(stream.id, code);
      if (!stream.isReceived) {
        this.#streams.linger(stream.id);
      }
    }
    this.#options.sender.remove(stream);
    stream.wasClosed();
    if (this.#streams.size === 0) {
      this.#options.onIdle();
    }
  }

  #onRequest(block: HeaderBlock): void {
    const { streamID, isLast } = block;
    const { head, fault } = this.#options.blocks.readRequest(block);
    if (!this.#takesRequests) {
      return;
    }
    if (streamID % 2 === 0) {
      throw new ConnectionError(ErrorCode.protocolError, `a client begins stream ${streamID}`);
    }
    this.#streams.begin(streamID);
    if (fault !== undefined || (isLast && (head.contentBytes ?? 0) > 0)) {
      this.#refuse(block, ErrorCode.protocolError);
    } else if (this.#streams.size >= maxStreams || this.#heldBytes > maxHeldBytes) {
      this.#refuse(block, ErrorCode.refusedStream);
    } else {
      const { initialWindowBytes } = this.#options.settings;
      const stream = new ServerStream(this, streamID, head, initialWindowBytes, streamWindowBytes);
      this.#streams.add(stream);
      this.#options.onStream(stream);
      if (isLast && !stream.isClosed) {
        stream.receive(noContent, true);
      }
    }
  }

  /** Content of a stream that the client has ended, or that is closed. */
  #onLateData(streamID: number, stream: ServerStream | undefined, isLast: boolean): void {
    if (stream !== undefined) {
      this.#fault(stream, ErrorCode.streamClosed);
    } else if (this.#streams.isLingering(streamID)) {
      if (isLast) {
        this.#streams.forget(streamID);
      }
    } else if (this.#streams.hasBegun(streamID)) {
      this.#spendReset();
      this.#options.outbox.reset(streamID, ErrorCode.streamClosed);
    }
  }

  #onLateTrailers(streamID: number, isLast: boolean): void {
    if (!this.#streams.isLingering(streamID)) {
      throw new ConnectionError(ErrorCode.streamClosed, `stream ${streamID} is closed`);
    }
    if (isLast) {
      this.#streams.forget(streamID);
    }
  }

  /** The client has made a mistake that concerns one stream. */
  #fault(stream: ServerStream, code: ErrorCode): void {
    this.#spendReset();
    this.close(stream, code);
  }

  #refuse({ streamID, isLast }: HeaderBlock, code: ErrorCode): void {
    this.#spendReset();
    this.#options.outbox.reset(streamID, code);
    if (!isLast) {
      this.#streams.linger(streamID);
    }
  }

  #spendReset(): void {
    if (!this.#resets.spend()) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, "too many streams are reset");
    }
  }
}
