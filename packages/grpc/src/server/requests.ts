import { fromBinary, type Message } from "@bufbuild/protobuf";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { EnvelopeReader, type ReadLimits } from "../envelope.ts";
import type { StreamSink } from "../http2/server-stream.ts";
import { IncomingMessages } from "../incoming.ts";
import type { ServerCall } from "./call.ts";

/** Reads the one request of a call and hands it over when the client has sent all it wanted to send. */
export class OneMessage implements StreamSink {
  readonly #call: ServerCall;
  readonly #reader: EnvelopeReader;
  readonly #use: (request: Message) => void;
  #message: Uint8Array | undefined;

  constructor(call: ServerCall, limits: ReadLimits, use: (request: Message) => void) {
    this.#call = call;
    this.#reader = new EnvelopeReader(limits);
    this.#use = use;
  }

  data(chunk: Buffer): void {
    const call = this.#call;
    if (call.ended) {
      return;
    }
    try {
      for (const message of this.#reader.push(chunk)) {
        if (this.#message !== undefined) {
          throw new InvalidArgumentError(
            `Cannot call ${call.method.name}: it takes one message, want no second one`,
          );
        }
        this.#message = message;
      }
      call.stream.assembledBytes = this.#reader.bufferedBytes;
    } catch (thrown) {
      call.fail(thrown);
    }
  }

  end(): void {
    const call = this.#call;
    if (call.ended) {
      return;
    }
    try {
      this.#reader.end();
      if (this.#message === undefined) {
        throw new InvalidArgumentError(
          `Cannot call ${call.method.name}: the request has no message, want one`,
        );
      }
      call.request = decode(call, this.#message);
      this.#use(call.request);
    } catch (thrown) {
      call.fail(thrown);
    }
  }

  closed(): void {
    this.#call.abandon();
  }
}

/** The requests of a call as they come. They fail when the client goes away before it has ended its side. */
export class MessageStream implements StreamSink {
  readonly messages: IncomingMessages<Message>;
  readonly #call: ServerCall;
  readonly #reader: EnvelopeReader;

  constructor(call: ServerCall, limits: ReadLimits) {
    this.#call = call;
    this.#reader = new EnvelopeReader(limits);
    this.messages = new IncomingMessages<Message>(call.stream);
    call.signal.addEventListener("abort", () => this.messages.fail(call.signal.reason), { once: true });
  }

  data(chunk: Buffer): void {
    try {
      for (const message of this.#reader.push(chunk)) {
        this.messages.push(decode(this.#call, message));
      }
      this.#call.stream.assembledBytes = this.#reader.bufferedBytes;
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  end(): void {
    try {
      this.#reader.end();
      this.messages.end();
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  closed(): void {
    this.#call.abandon();
  }

  #fail(thrown: unknown): void {
    this.messages.fail(thrown);
    this.#call.fail(thrown);
  }
}

function decode({ method }: ServerCall, bytes: Uint8Array): Message {
  try {
    return fromBinary(method.input, bytes);
  } catch (cause) {
    throw new InvalidArgumentError(
      `Cannot read request of ${method.name}: it is no valid ${method.input.typeName}`,
      {
        cause,
      },
    );
  }
}
