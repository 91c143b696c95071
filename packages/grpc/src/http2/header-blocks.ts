import { BlockCache } from "./block-cache.ts";
import { withoutPadding } from "./frame-reader.ts";
import { HpackDecoder } from "./hpack/decoder.ts";
import { ConnectionError, ErrorCode, Flag } from "./protocol.ts";
import { faultOfRequest, RequestHead } from "./request-head.ts";

/** So much is kept of the headers of a request, as HPACK counts: each its name, its value and 32 bytes. */
export const maxHeaderListBytes = 64 * 1024;

/** A header block in its coded form. What is over it cannot be decoded, and without that the connection is lost. */
const maxBlockBytes = 256 * 1024;

/** Frames that such a block may come in. A client that fills its frames needs sixteen. */
const maxBlockFrames = 64;

/** Weight and dependency of a stream, which nobody heeds any more (RFC 9113, section 5.3.2). */
const priorityBytes = 5;

/** A header block that has come whole; its bytes are what `bytes` has from `start` to `end`. */
export interface HeaderBlock {
  readonly streamID: number;
  /** The stream ends with it. */
  readonly isLast: boolean;
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
}

interface PartialBlock {
  readonly streamID: number;
  readonly isLast: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

/** What a request's header block says: headers, or why they are none. */
interface ReadRequest {
  readonly head: RequestHead;
  readonly fault: string | undefined;
}

/** Puts header blocks together from HEADERS and CONTINUATION, and reads them. */
export class HeaderBlocks {
  readonly #decoder = new HpackDecoder(maxHeaderListBytes);
  readonly #requests = new BlockCache<ReadRequest>();
  #partial: PartialBlock | undefined;

  /** A block has begun: nothing but its next part may come (RFC 9113, section 4.3). */
  get isPartial(): boolean {
    return this.#partial !== undefined;
  }

  /** Takes HEADERS. @returns the block, if it is whole. */
  begin(flags: number, streamID: number, bytes: Buffer, start: number, end: number): HeaderBlock | undefined {
    const isLast = (flags & Flag.endStream) !== 0;
    let [from, to] = [start, end];
    if ((flags & Flag.padded) !== 0) {
      const content = withoutPadding(flags, bytes, start, end);
      from = start + 1;
      to = from + content.length;
    }
    if ((flags & Flag.priority) !== 0) {
      from += priorityBytes;
      if (from > to) {
        throw new ConnectionError(ErrorCode.frameSizeError, "HEADERS end inside their priority");
      }
    }
    if ((flags & Flag.endHeaders) !== 0) {
      return { streamID, isLast, bytes, start: from, end: to };
    }
    const part = Buffer.from(bytes.subarray(from, to));
    this.#partial = { streamID, isLast, parts: [part], bytes: part.length };
    return undefined;
  }

  /** Takes CONTINUATION. @returns the block, if it is whole. */
  proceed(
    flags: number,
    streamID: number,
    bytes: Buffer,
    start: number,
    end: number,
  ): HeaderBlock | undefined {
    const partial = this.#partial;
    if (partial === undefined || partial.streamID !== streamID) {
      throw new ConnectionError(ErrorCode.protocolError, "CONTINUATION continues nothing");
    }
    partial.parts.push(Buffer.from(bytes.subarray(start, end)));
    partial.bytes += end - start;
    if (partial.bytes > maxBlockBytes || partial.parts.length > maxBlockFrames) {
      throw new ConnectionError(ErrorCode.enhanceYourCalm, "a header block does not end");
    }
    if ((flags & Flag.endHeaders) === 0) {
      return undefined;
    }
    this.#partial = undefined;
    const { isLast, parts } = partial;
    return { streamID, isLast, bytes: Buffer.concat(parts, partial.bytes), start: 0, end: partial.bytes };
  }

  /** Decodes a block that begins a stream. */
  readRequest({ bytes, start, end }: HeaderBlock): ReadRequest {
    const { version } = this.#decoder;
    const known = this.#requests.find(bytes, start, end, version);
    if (known !== undefined) {
      return known;
    }
    const head = new RequestHead(this.#decoder.decode(bytes, start, end));
    const read = { head, fault: faultOfRequest(head) };
    if (this.#decoder.version === version) {
      this.#requests.keep(bytes, start, end, version, read);
    }
    return read;
  }

  /** Decodes any other block. @returns its fields. */
  readFields({ bytes, start, end }: HeaderBlock): readonly string[] {
    return this.#decoder.decode(bytes, start, end).raw;
  }
}
