import type { Duplex } from "node:stream";
import { type ErrorCode, Flag, FrameType, frameHeaderBytes } from "./protocol.ts";

/** Frames are gathered in a piece of memory of this size, which all connections take from. */
const slabBytes = 64 * 1024;

/** Content from this size on is handed over as it is: to write it on its own costs less than to copy it. */
const copiedBytes = 4096;

/** So much is written at once, before the turn of the event loop ends. */
const flushBytes = 64 * 1024;

const noBytes = Buffer.alloc(0);

let slab = noBytes;
let slabUsed = 0;
/** Who has taken the latest bytes of the slab, and may go on where they end. */
let slabOwner: Outbox | undefined;

/**
 * The frames that go to the peer. What is said in one turn of the event loop is written at its end, together: the answers
 * to all calls that one read has brought cost one system call.
 */
export class Outbox {
  readonly #duplex: Duplex;
  /** Largest payload of a frame that the peer takes. */
  #frameBytes: number;
  #ready: Buffer[] = [];
  #readyBytes = 0;
  /** Where in the slab the frames begin that are not in `#ready` yet. */
  #begin = 0;
  #end = 0;
  #slab = noBytes;
  #isScheduled = false;

  constructor(duplex: Duplex, frameBytes: number) {
    this.#duplex = duplex;
    this.#frameBytes = frameBytes;
  }

  set frameBytes(bytes: number) {
    this.#frameBytes = bytes;
  }

  /** What has been said and not been taken by the kernel, or whoever is below. */
  get unsentBytes(): number {
    return this.#readyBytes + this.#end - this.#begin + this.#duplex.writableLength;
  }

  /** The peer reads more slowly than we write: content should wait until `duplex` drains. */
  get isCongested(): boolean {
    return this.#duplex.writableNeedDrain;
  }

  /** A header block, in as many frames as it needs. */
  headers(streamID: number, block: Buffer, isLast: boolean): void {
    const flags = isLast ? Flag.endStream : 0;
    if (block.length <= this.#frameBytes) {
      this.#frame(FrameType.headers, flags | Flag.endHeaders, streamID, block, 0, block.length);
      return;
    }
    for (let start = 0; start < block.length; start += this.#frameBytes) {
      const end = Math.min(block.length, start + this.#frameBytes);
      const isEnd = end === block.length ? Flag.endHeaders : 0;
      if (start === 0) {
        this.#frame(FrameType.headers, flags, streamID, block, start, end);
      } else {
        this.#frame(FrameType.continuation, isEnd, streamID, block, start, end);
      }
    }
  }

  /** One frame of content: what `bytes` has from `start` to `end`. They must not change any more. */
  data(streamID: number, bytes: Buffer, start: number, end: number): void {
    if (end - start <= copiedBytes) {
      this.#frame(FrameType.data, 0, streamID, bytes, start, end);
    } else {
      this.#header(FrameType.data, 0, streamID, end - start, 0);
      this.#seal();
      this.#push(bytes.subarray(start, end));
    }
    if (this.#readyBytes + this.#end - this.#begin >= flushBytes) {
      this.flush();
    }
  }

  settings(settings: readonly (readonly [name: number, value: number])[]): void {
    const payload = Buffer.alloc(settings.length * 6);
    for (const [index, [name, value]] of settings.entries()) {
      payload.writeUInt16BE(name, index * 6);
      payload.writeUInt32BE(value, index * 6 + 2);
    }
    this.#frame(FrameType.settings, 0, 0, payload, 0, payload.length);
  }

  settingsAck(): void {
    this.#frame(FrameType.settings, Flag.ack, 0, noBytes, 0, 0);
  }

  /** PING: the eight bytes that `bytes` has at `start`. */
  ping(flags: number, bytes: Buffer, start: number): void {
    this.#frame(FrameType.ping, flags, 0, bytes, start, start + 8);
  }

  windowUpdate(streamID: number, bytes: number): void {
    this.#number(FrameType.windowUpdate, streamID, bytes);
  }

  reset(streamID: number, code: ErrorCode): void {
    this.#number(FrameType.rstStream, streamID, code);
  }

  goaway(lastStreamID: number, code: ErrorCode, text: string): void {
    const payload = Buffer.alloc(8 + text.length);
    payload.writeUInt32BE(lastStreamID, 0);
    payload.writeUInt32BE(code, 4);
    payload.write(text, 8, "latin1");
    this.#frame(FrameType.goaway, 0, 0, payload, 0, payload.length);
  }

  /** Writes what has gathered. It also happens by itself. */
  readonly flush = (): void => {
    this.#isScheduled = false;
    this.#seal();
    const ready = this.#ready;
    if (ready.length === 0 || this.#duplex.writableEnded || this.#duplex.destroyed) {
      return;
    }
    this.#ready = [];
    this.#readyBytes = 0;
    const [first] = ready;
    if (ready.length === 1 && first !== undefined) {
      this.#duplex.write(first);
      return;
    }
    this.#duplex.cork();
    for (const bytes of ready) {
      this.#duplex.write(bytes);
    }
    this.#duplex.uncork();
  };

  #number(type: number, streamID: number, value: number): void {
    const offset = this.#header(type, 0, streamID, 4, 4);
    writeUint32(this.#slab, offset, value);
  }

  #frame(type: number, flags: number, streamID: number, bytes: Buffer, start: number, end: number): void {
    const offset = this.#header(type, flags, streamID, end - start, end - start);
    bytes.copy(this.#slab, offset, start, end);
  }

  /**
   * Begins a frame, and schedules that it is written.
   *
   * @param length of its payload.
   * @param room how much of the payload goes into the slab as well.
   * @returns where in the slab.
   */
  #header(type: number, flags: number, streamID: number, length: number, room: number): number {
    const offset = this.#reserve(frameHeaderBytes + room);
    const bytes = this.#slab;
    bytes[offset] = length >>> 16;
    bytes[offset + 1] = length >>> 8;
    bytes[offset + 2] = length;
    bytes[offset + 3] = type;
    bytes[offset + 4] = flags;
    writeUint32(bytes, offset + 5, streamID);
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(this.flush);
    }
    return offset + frameHeaderBytes;
  }

  #reserve(bytes: number): number {
    if (slab.length - slabUsed < bytes) {
      slab = Buffer.allocUnsafeSlow(Math.max(slabBytes, bytes));
      slabUsed = 0;
      slabOwner = undefined;
    }
    if (slabOwner !== this) {
      this.#seal();
      slabOwner = this;
      this.#slab = slab;
      this.#begin = slabUsed;
    }
    const offset = slabUsed;
    slabUsed += bytes;
    this.#end = slabUsed;
    return offset;
  }

  /** Puts what is in the slab to what is ready. */
  #seal(): void {
    if (this.#end > this.#begin) {
      this.#push(this.#slab.subarray(this.#begin, this.#end));
    }
    this.#begin = this.#end;
  }

  #push(bytes: Buffer): void {
    this.#ready.push(bytes);
    this.#readyBytes += bytes.length;
  }
}

function writeUint32(bytes: Buffer, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}
