import { gunzipSync } from "node:zlib";
import { InvalidArgumentError, ResourceExhaustedError, UnimplementedError } from "@oci-worker/errdefs";
import { ByteQueue } from "./byte-queue.ts";

/**
 * The length-prefixed message of gRPC over HTTP/2: one flag byte (bit 0: compressed), the length as four
 * big-endian bytes, then the message (grpc/doc/PROTOCOL-HTTP2.md, "Length-Prefixed-Message").
 */
const prefixBytes = 5;
const compressedFlag = 1;

/** What gRPC peers of containerd and BuildKit agree on, in both directions (containerd's defaults package). */
export const defaultMaxMessageBytes = 16 * 1024 * 1024;

/**
 * Puts the prefix before a serialized message.
 *
 * @throws {ResourceExhaustedError} if the message is larger than `maxBytes`, which the peer would refuse.
 */
export function envelope(message: Uint8Array, maxBytes: number): Buffer {
  if (message.length > maxBytes) {
    throw new ResourceExhaustedError(tooLarge("send", message.length, maxBytes));
  }
  const framed = Buffer.allocUnsafe(prefixBytes + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, prefixBytes);
  return framed;
}

/** How one side reads the messages of the other. */
export interface ReadLimits {
  /** Largest message taken, after decompression. */
  readonly maxBytes: number;
  /** The stream's `grpc-encoding`, or undefined for none. */
  readonly encoding: string | undefined;
}

/**
 * Cuts a byte stream into messages. Chunks may be split anywhere; a message of zero bytes is a message.
 *
 * A chunk that holds a whole message is handed on without a copy: that is nearly every unary call.
 */
export class EnvelopeReader {
  readonly #limits: ReadLimits;
  readonly #buffered = new ByteQueue();

  constructor(limits: ReadLimits) {
    this.#limits = limits;
  }

  /**
   * Takes the next bytes and returns the messages that they complete.
   *
   * @throws {ResourceExhaustedError} as soon as a prefix announces more than the limit, before its bytes are kept.
   * @throws {InvalidArgumentError} if the bytes are no envelope.
   * @throws {UnimplementedError} if a message is compressed with an encoding we do not have.
   */
  push(chunk: Buffer): Uint8Array[] {
    let bytes = chunk;
    if (this.#buffered.length > 0) {
      this.#buffered.push(chunk);
      if (this.#buffered.length < this.#wanted()) {
        return [];
      }
      bytes = this.#buffered.takeAll();
    }
    const messages: Uint8Array[] = [];
    let offset = 0;
    while (bytes.length - offset >= prefixBytes) {
      const end = offset + this.#envelopeBytes(bytes, offset);
      if (end > bytes.length) {
        break;
      }
      messages.push(this.#open(bytes[offset] ?? 0, bytes.subarray(offset + prefixBytes, end)));
      offset = end;
    }
    if (offset < bytes.length) {
      this.#buffered.push(bytes.subarray(offset));
    }
    return messages;
  }

  /** What is kept of a message that is not whole yet. */
  get bufferedBytes(): number {
    return this.#buffered.length;
  }

  /** @throws {InvalidArgumentError} if the stream ended inside a message. */
  end(): void {
    if (this.#buffered.length > 0) {
      throw new InvalidArgumentError(
        `Cannot read message: the stream ended after ${this.#buffered.length} bytes, before the message did`,
      );
    }
  }

  /** How many bytes must be buffered before it is worth looking at them again. */
  #wanted(): number {
    const { first } = this.#buffered;
    if (first === undefined || first.length < prefixBytes) {
      return prefixBytes;
    }
    return this.#envelopeBytes(first, 0);
  }

  #envelopeBytes(bytes: Buffer, offset: number): number {
    const length = bytes.readUInt32BE(offset + 1);
    if (length > this.#limits.maxBytes) {
      throw new ResourceExhaustedError(tooLarge("receive", length, this.#limits.maxBytes));
    }
    return prefixBytes + length;
  }

  #open(flags: number, payload: Buffer): Uint8Array {
    if (flags === 0) {
      return payload;
    }
    if (flags !== compressedFlag) {
      throw new InvalidArgumentError(`Cannot read message: its flags are ${flags}, want 0 or 1`);
    }
    return decompress(payload, this.#limits);
  }
}

function decompress(payload: Buffer, { encoding, maxBytes }: ReadLimits): Uint8Array {
  if (encoding !== "gzip") {
    throw new UnimplementedError(
      `Cannot read compressed message: its encoding is ${JSON.stringify(encoding ?? "identity")}, want gzip`,
    );
  }
  try {
    return payload.length === 0 ? payload : gunzipSync(payload, { maxOutputLength: maxBytes });
  } catch (cause) {
    if (cause instanceof RangeError) {
      throw new ResourceExhaustedError(
        `Cannot receive message: unpacked it is over the limit of ${maxBytes} bytes`,
      );
    }
    throw new InvalidArgumentError("Cannot read compressed message: it is not valid gzip", { cause });
  }
}

function tooLarge(verb: "send" | "receive", bytes: number, maxBytes: number): string {
  return `Cannot ${verb} message of ${bytes} bytes: the limit is ${maxBytes} bytes`;
}
