import type { OutgoingHttpHeaders } from "node:http2";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { ServiceError } from "@oci-worker/errdefs";
import { statusOf } from "@oci-worker/errdefs/connect";
import { defaultMaxMessageBytes, EnvelopeReader, envelope } from "../envelope.ts";
import { IncomingMessages } from "../incoming.ts";
import { outgoingHeaders } from "../metadata.ts";
import { formatTimeout } from "../timeout.ts";
import { abortError, ClientCall } from "./call.ts";
import { Connection } from "./connection.ts";
import { drained } from "./drained.ts";
import { addressOf, dialTcp, explainDial, originOf, type TcpTarget } from "./tcp.ts";

export type { ClientTls, TcpTarget } from "./tcp.ts";

export interface ChannelOptions {
  /** How long a call waits for a peer that cannot be reached, such as one that restarts. 0: it fails at once. */
  readonly patienceMs?: number;
  /** Largest message in either direction, in bytes. */
  readonly maxMessageBytes?: number;
}

/** A server in the network that has not spoken by then is treated as one that is not there. */
const handshakeTimeoutMs = 20_000;

/**
 * How often a unary call is sent again that the server has refused unseen, as a restarting one does; or that it may
 * have seen before the connection was lost, if its method says that to do it twice is the same as once.
 */
const maxResends = 3;

/**
 * A channel to whoever listens on the unix socket `path`, with or without `unix://` before it.
 *
 * Nothing is dialled before the first call. A lost connection is dialled again by the next call.
 */
export function unixChannel(path: string, options?: ChannelOptions): Channel {
  const target = path.replace(/^unix:\/\//, "");
  return new Channel(new Connection({ target, dial: () => connect(target) }), options);
}

/** As {@link unixChannel}, to whoever listens in the network. */
export function tcpChannel(target: TcpTarget, options?: ChannelOptions): Channel {
  const connection = new Connection({
    target: addressOf(target),
    origin: originOf(target),
    dial: () => dialTcp(target),
    handshakeTimeoutMs,
    explain: (failure) => explainDial(target, failure),
  });
  return new Channel(connection, options);
}

/** A channel over one byte stream, such as a tunnel. When that ends, so does the channel. */
export function duplexChannel(duplex: Duplex, target: string, options?: ChannelOptions): Channel {
  let dialled = false;
  const dial = () => {
    if (dialled) {
      throw new ConnectError(`Cannot reach ${target}: its connection has ended`, Code.Unavailable);
    }
    dialled = true;
    return duplex;
  };
  return new Channel(new Connection({ target, dial }), options);
}

/** What every call of a channel has. */
interface Outgoing {
  readonly method: DescMethod;
  readonly header: HeadersInit | undefined;
  readonly signal: AbortSignal | undefined;
  /** Moment of `performance.now()` at which the caller's patience ends. */
  readonly deadlineAt: number | undefined;
}

/**
 * A connect `Transport` that speaks gRPC over one HTTP/2 connection: hand it to `createClient` of connect.
 *
 * Headers given as pairs keep repeated names apart. Errors are `ConnectError`s whose `metadata` holds all trailers.
 */
export class Channel implements Transport, Disposable {
  readonly #connection: Connection;
  readonly #patienceMs: number;
  readonly #maxBytes: number;

  constructor(connection: Connection, options: ChannelOptions = {}) {
    this.#connection = connection;
    this.#patienceMs = options.patienceMs ?? 0;
    this.#maxBytes = options.maxMessageBytes ?? defaultMaxMessageBytes;
  }

  /** Closes the connection; calls still open end with Unavailable. */
  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    const outgoing = { method, header, signal, deadlineAt: deadline(timeoutMs) };
    const framed = this.#encode(method.input, input);
    for (let resends = 0; ; resends += 1) {
      const call = await this.#start(outgoing);
      const messages: Uint8Array[] = [];
      this.#read(call, (message) => messages.push(message));
      call.stream.end(framed);
      const error = await call.ended;
      if (error === undefined) {
        return unaryResponse(method, call, messages);
      }
      const mayResend = call.refusedUnseen || (call.connectionLost && isIdempotent(method));
      if (!mayResend || resends === maxResends) {
        throw error;
      }
    }
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    const call = await this.#start({ method, header, signal, deadlineAt: deadline(timeoutMs) });
    const message = new IncomingMessages<MessageShape<O>>(call.stream, () => {
      call.cancel(new ConnectError("the reader has left", Code.Canceled));
    });
    this.#read(call, (bytes) => message.push(fromBinary(method.output, bytes)));
    call.ended.then((error) => (error === undefined ? message.end() : message.fail(error)), message.fail);
    this.#sendAll(call, method.input, input).catch((thrown: unknown) => call.cancel(toConnectError(thrown)));
    await call.responded;
    return {
      stream: true,
      service: method.parent,
      method,
      message,
      header: call.header,
      get trailer() {
        return call.trailer;
      },
    };
  }

  /** Opens the stream of a call, on a connection that is made first if there is none. */
  async #start({ method, header, signal, deadlineAt }: Outgoing): Promise<ClientCall> {
    if (signal?.aborted) {
      throw abortError(signal);
    }
    const session = this.#connection.ready ?? (await this.#connect(signal, deadlineAt));
    const timeoutMs = deadlineAt === undefined ? undefined : deadlineAt - performance.now();
    const headers: OutgoingHttpHeaders = {
      ...outgoingHeaders(header),
      ":method": "POST",
      ":path": `/${method.parent.typeName}/${method.name}`,
      "content-type": "application/grpc+proto",
      te: "trailers",
    };
    if (timeoutMs !== undefined) {
      headers["grpc-timeout"] = formatTimeout(timeoutMs);
    }
    return new ClientCall({ session, headers, signal, timeoutMs });
  }

  async #connect(signal: AbortSignal | undefined, deadlineAt: number | undefined) {
    const remainingMs = deadlineAt === undefined ? undefined : Math.max(0, deadlineAt - performance.now());
    const patienceMs = Math.min(this.#patienceMs, remainingMs ?? this.#patienceMs);
    const limits = [
      signal,
      remainingMs === undefined ? undefined : AbortSignal.timeout(Math.ceil(remainingMs)),
    ];
    const limit = AbortSignal.any(limits.filter((each) => each !== undefined));
    try {
      return await this.#connection.session(patienceMs, limit);
    } catch (thrown) {
      throw limit.aborted ? abortError(limit) : toConnectError(thrown);
    }
  }

  #read(call: ClientCall, take: (message: Uint8Array) => void): void {
    const reader = new EnvelopeReader({
      maxBytes: this.#maxBytes,
      get encoding() {
        return call.encoding;
      },
    });
    call.stream.on("data", (chunk: Buffer) => {
      try {
        for (const message of reader.push(chunk)) {
          take(message);
        }
      } catch (thrown) {
        call.cancel(toConnectError(thrown));
      }
    });
  }

  async #sendAll<I extends DescMessage>(
    call: ClientCall,
    schema: I,
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<void> {
    const iterator = input[Symbol.asyncIterator]();
    // A call that has ended wants no more input; how the source takes that concerns nobody.
    call.ended.then(() => iterator.return?.()).catch(() => undefined);
    for (;;) {
      const { done, value } = await iterator.next();
      if (call.stream.closed || call.stream.destroyed) {
        return;
      }
      if (done === true) {
        call.stream.end();
        return;
      }
      if (!call.stream.write(this.#encode(schema, value))) {
        await drained(call.stream);
      }
    }
  }

  #encode<I extends DescMessage>(schema: I, message: MessageInitShape<I>): Buffer {
    try {
      return envelope(toBinary(schema, create(schema, message)), this.#maxBytes);
    } catch (thrown) {
      throw toConnectError(thrown);
    }
  }
}

function unaryResponse<I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  call: ClientCall,
  messages: readonly Uint8Array[],
): UnaryResponse<I, O> {
  const [bytes, ...others] = messages;
  if (bytes === undefined || others.length > 0) {
    const count = messages.length;
    throw new ConnectError(`the server answered OK with ${count} messages, want one`, Code.Unimplemented);
  }
  return {
    stream: false,
    service: method.parent,
    method,
    message: fromBinary(method.output, bytes),
    get header() {
      return call.header;
    },
    get trailer() {
      return call.trailer;
    },
  };
}

function isIdempotent({ idempotency }: DescMethod): boolean {
  return (
    idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENT ||
    idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS
  );
}

function deadline(timeoutMs: number | undefined): number | undefined {
  return timeoutMs === undefined || timeoutMs <= 0 ? undefined : performance.now() + timeoutMs;
}

/** What a caller of connect expects to catch; our own errors keep their code and text. */
function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ServiceError) {
    const { code, message } = statusOf(thrown);
    return new ConnectError(message, code, undefined, undefined, thrown);
  }
  return ConnectError.from(thrown, Code.Internal);
}
