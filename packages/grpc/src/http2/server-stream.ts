import { ByteQueue } from "../byte-queue.ts";
import type { ErrorCode } from "./protocol.ts";
import type { RequestHead } from "./request-head.ts";

/** Who takes what a client sends on a stream. */
export interface StreamSink {
  /** The next bytes of the content. They may be kept, but not changed. */
  data(chunk: Buffer): void;
  /** There is no more content. */
  end(): void;
  /** The stream is over: everything is said, or one side has reset it, or the connection is gone. Comes last, once. */
  closed(): void;
}

/** What a stream asks of its connection. */
export interface StreamHost {
  /** Sends a header block. The last one ends the stream. */
  sendHeaders(stream: ServerStream, block: Buffer, isLast: boolean): void;
  /** There is something in the stream's queue. */
  sendQueued(stream: ServerStream): void;
  /** So much of the stream's window may be used again by the client. */
  reopenWindow(stream: ServerStream, bytes: number): void;
  /** The stream holds so many bytes more, or less. */
  hold(bytes: number): void;
  /** Tells the client that the stream is over, if `code` is given, and forgets it. */
  close(stream: ServerStream, code: ErrorCode | undefined): void;
}

const noSink: StreamSink = { data: () => undefined, end: () => undefined, closed: () => undefined };

/**
 * One request and its response, as the server sees them.
 *
 * What the client sends goes to {@link sink}. While that has paused the stream, what comes is held, and the client may
 * send no more than a window.
 */
export class ServerStream {
  readonly id: number;
  readonly head: RequestHead;
  sink: StreamSink = noSink;
  /** What the client still takes; below zero if it has taken back what was used up already. */
  sendWindow: number;
  /** What the client may still send. */
  receiveWindow: number;
  /** What the client may send again, as soon as it is worth a frame. */
  unannounced = 0;
  /** Content that waits for the client to take it. */
  readonly queue: Buffer[] = [];
  /** How much of the first of the queue is gone. */
  queueOffset = 0;
  /** Ends the response when the queue is empty. */
  trailers: Buffer | undefined;
  #isReceived = false;
  #isSent = false;
  #isClosed = false;
  #headersSent = false;
  readonly #host: StreamHost;
  #receivedBytes = 0;
  #isPaused = false;
  /** What came while the stream was paused. */
  #held = new ByteQueue();
  #heldEnd = false;
  #assembledBytes = 0;
  #queuedBytes = 0;
  #waiting: (() => void)[] = [];

  constructor(host: StreamHost, id: number, head: RequestHead, sendWindow: number, receiveWindow: number) {
    this.#host = host;
    this.id = id;
    this.head = head;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
  }

  get headersSent(): boolean {
    return this.#headersSent;
  }

  /** Nothing can be said any more, or everything has been. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** The client has sent all of its request. */
  get isReceived(): boolean {
    return this.#isReceived;
  }

  /** Sends the response's header block. */
  respond(block: Buffer): void {
    if (!this.#isClosed && !this.#headersSent) {
      this.#headersSent = true;
      this.#host.sendHeaders(this, block, false);
    }
  }

  /**
   * Sends content, as soon as the client takes it.
   *
   * @returns false if it has to wait: {@link drained} tells when more makes sense.
   */
  write(bytes: Buffer): boolean {
    if (this.#isClosed || this.trailers !== undefined) {
      return true;
    }
    this.queue.push(bytes);
    this.#queuedBytes += bytes.length;
    this.#host.hold(bytes.length);
    this.#host.sendQueued(this);
    return this.queue.length === 0;
  }

  /** Resolves when the client has taken what was written, or never will. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      if (this.queue.length === 0) {
        resolve();
      } else {
        this.#waiting.push(resolve);
      }
    });
  }

  /** Ends the response with a header block, after what is still to be sent: the trailers, or all there is of it. */
  end(block: Buffer): void {
    if (this.#isClosed || this.trailers !== undefined) {
      return;
    }
    this.trailers = block;
    this.#headersSent = true;
    this.sentSome(0);
  }

  /** Drops what the client has not taken yet. */
  discard(): void {
    if (!this.#isClosed) {
      this.queue.length = 0;
      this.queueOffset = 0;
      this.sentSome(this.#queuedBytes);
    }
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    while (!this.#isPaused && this.#held.length > 0) {
      const chunk = this.#held.shift();
      if (chunk !== undefined) {
        this.#host.hold(-chunk.length);
        this.#deliver(chunk);
      }
    }
    if (!this.#isPaused && this.#heldEnd) {
      this.#heldEnd = false;
      this.sink.end();
    }
  }

  /** The sink keeps so many bytes until a message is whole. */
  set assembledBytes(bytes: number) {
    if (!this.#isClosed) {
      this.#host.hold(bytes - this.#assembledBytes);
      this.#assembledBytes = bytes;
    }
  }

  /**
   * Takes content from the client; `isLast` says that nothing follows.
   *
   * @returns false if it is not so much as the content-length says.
   */
  receive(content: Buffer, isLast: boolean): boolean {
    this.#isReceived = isLast;
    this.#receivedBytes += content.length;
    const wanted = this.head.contentBytes ?? this.#receivedBytes;
    if (isLast ? this.#receivedBytes !== wanted : this.#receivedBytes > wanted) {
      return false;
    }
    const isHeld = this.#isPaused || this.#held.length > 0;
    if (content.length > 0 && isHeld) {
      this.#held.push(content);
      this.#host.hold(content.length);
    } else if (content.length > 0) {
      this.#deliver(content);
    }
    if (isLast && isHeld) {
      this.#heldEnd = true;
    } else if (isLast && !this.#isClosed) {
      this.sink.end();
    }
    return true;
  }

  /** The connection has sent so much of the queue. */
  sentSome(bytes: number): void {
    this.#queuedBytes -= bytes;
    this.#host.hold(-bytes);
    if (this.queue.length > 0) {
      return;
    }
    if (this.trailers !== undefined && !this.#isSent) {
      this.#isSent = true;
      this.#host.sendHeaders(this, this.trailers, true);
    }
    this.#wakeWriters();
  }

  /** The connection has forgotten the stream. */
  wasClosed(): void {
    this.#isClosed = true;
    this.#host.hold(-(this.#held.length + this.#assembledBytes + this.#queuedBytes));
    this.#held = new ByteQueue();
    this.#heldEnd = false;
    this.queue.length = 0;
    this.#wakeWriters();
    this.sink.closed();
  }

  #deliver(chunk: Buffer): void {
    this.sink.data(chunk);
    if (!this.#isReceived && !this.#isClosed) {
      this.#host.reopenWindow(this, chunk.length);
    }
  }

  #wakeWriters(): void {
    if (this.#waiting.length > 0) {
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const wake of waiting) {
        wake();
      }
    }
  }
}
