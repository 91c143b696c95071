import {
  ConnectionError,
  clientPreface,
  defaultFrameBytes,
  ErrorCode,
  Flag,
  FrameType,
  frameHeaderBytes,
  uint31,
} from "./protocol.ts";

/** Told what a {@link FrameReader} finds, in order. */
export interface FrameSink {
  /**
   * Content of a DATA frame, its padding left out.
   *
   * @param charged how much of the windows it uses up: padding counts.
   * @param isLast the peer ends the stream with it.
   */
  onData(streamID: number, content: Buffer, charged: number, isLast: boolean): void;
  /** Any other frame, whole: its payload is what `bytes` has from `start` to `end`. */
  onFrame(type: number, flags: number, streamID: number, bytes: Buffer, start: number, end: number): void;
}

/**
 * Cuts the bytes of a client into frames, without a copy where a frame is not split over two reads.
 *
 * DATA is passed on as it comes, a part of a frame too. Of other frames, which are small, the parts are put together.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  #prefaceBytes = 0;
  /** A frame that has come in part: so much of it as is known to come, its header first. */
  #partial: Buffer | undefined;
  #partialBytes = 0;
  #dataStreamID = 0;
  #dataIsLast = false;
  /** What is still to come of the DATA frame that is being read. */
  #dataBytes = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /**
   * Takes the next bytes.
   *
   * @throws {ConnectionError} if the client does not speak HTTP/2, or sends a larger frame than it may.
   */
  push(chunk: Buffer): void {
    let offset = this.#prefaceBytes < clientPreface.length ? this.#readPreface(chunk) : 0;
    while (offset < chunk.length) {
      if (this.#dataBytes > 0) {
        offset = this.#passData(chunk, offset);
      } else if (this.#partial !== undefined || chunk.length - offset < frameHeaderBytes) {
        offset = this.#collect(chunk, offset);
      } else if (this.#beginsData(chunk, offset)) {
        offset += frameHeaderBytes;
      } else if (offset + frameBytes(chunk, offset) > chunk.length) {
        offset = this.#collect(chunk, offset);
      } else {
        const begin = offset;
        offset += frameBytes(chunk, offset);
        this.#dispatch(chunk, begin, offset);
      }
    }
  }

  #readPreface(chunk: Buffer): number {
    const wanted = Math.min(chunk.length, clientPreface.length - this.#prefaceBytes);
    const end = this.#prefaceBytes + wanted;
    if (chunk.compare(clientPreface, this.#prefaceBytes, end, 0, wanted) !== 0) {
      throw new ConnectionError(ErrorCode.protocolError, "the connection does not begin as HTTP/2 does");
    }
    this.#prefaceBytes = end;
    return wanted;
  }

  /** True if a DATA frame without padding begins at `offset`, whose content follows. */
  #beginsData(bytes: Buffer, offset: number): boolean {
    const length = frameBytes(bytes, offset) - frameHeaderBytes;
    const flags = bytes[offset + 4] ?? 0;
    if (bytes[offset + 3] !== FrameType.data || (flags & Flag.padded) !== 0 || length === 0) {
      return false;
    }
    this.#dataStreamID = uint31(bytes, offset + 5);
    this.#dataIsLast = (flags & Flag.endStream) !== 0;
    this.#dataBytes = length;
    return true;
  }

  #passData(chunk: Buffer, offset: number): number {
    const end = Math.min(chunk.length, offset + this.#dataBytes);
    const content = offset === 0 && end === chunk.length ? chunk : chunk.subarray(offset, end);
    this.#dataBytes -= content.length;
    this.#sink.onData(this.#dataStreamID, content, content.length, this.#dataIsLast && this.#dataBytes === 0);
    return end;
  }

  #collect(chunk: Buffer, begin: number): number {
    this.#partial ??= Buffer.allocUnsafe(frameHeaderBytes);
    const end = begin + chunk.copy(this.#partial, this.#partialBytes, begin);
    this.#partialBytes += end - begin;
    if (this.#partialBytes < this.#partial.length) {
      return end;
    }
    const partial = this.#partial;
    if (partial.length === frameHeaderBytes && this.#beginsData(partial, 0)) {
      this.#forget();
      return end;
    }
    const length = frameBytes(partial, 0);
    if (partial.length < length) {
      this.#partial = Buffer.allocUnsafe(length);
      partial.copy(this.#partial);
      return end;
    }
    this.#forget();
    this.#dispatch(partial, 0, length);
    return end;
  }

  #forget(): void {
    this.#partial = undefined;
    this.#partialBytes = 0;
  }

  #dispatch(bytes: Buffer, begin: number, end: number): void {
    const type = bytes[begin + 3] ?? 0;
    const flags = bytes[begin + 4] ?? 0;
    const streamID = uint31(bytes, begin + 5);
    const payload = begin + frameHeaderBytes;
    if (type === FrameType.data) {
      const content = withoutPadding(flags, bytes, payload, end);
      this.#sink.onData(streamID, content, end - payload, (flags & Flag.endStream) !== 0);
    } else {
      this.#sink.onFrame(type, flags, streamID, bytes, payload, end);
    }
  }
}

/**
 * The content of a frame that may be padded: its first byte then says how many bytes at its end mean nothing.
 *
 * @throws {ConnectionError} if there is more padding than frame.
 */
export function withoutPadding(flags: number, bytes: Buffer, start: number, end: number): Buffer {
  if ((flags & Flag.padded) === 0) {
    return bytes.subarray(start, end);
  }
  const contentEnd = end - (bytes[start] ?? 0);
  if (start === end || contentEnd < start + 1) {
    throw new ConnectionError(ErrorCode.protocolError, "a frame has more padding than it is long");
  }
  return bytes.subarray(start + 1, contentEnd);
}

/** Length of the frame whose header is at `offset`, the header included. */
function frameBytes(bytes: Buffer, offset: number): number {
  const length = ((bytes[offset] ?? 0) << 16) | ((bytes[offset + 1] ?? 0) << 8) | (bytes[offset + 2] ?? 0);
  if (length > defaultFrameBytes) {
    throw new ConnectionError(
      ErrorCode.frameSizeError,
      `a frame has ${length} bytes, want at most ${defaultFrameBytes}`,
    );
  }
  return frameHeaderBytes + length;
}
