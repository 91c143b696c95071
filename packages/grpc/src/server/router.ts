import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import {
  create,
  type DescMethod,
  type DescService,
  fromBinary,
  type Message,
  toBinary,
} from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { InvalidArgumentError, UnimplementedError } from "@oci-worker/errdefs";
import { EnvelopeReader, envelope, type ReadLimits } from "../envelope.ts";
import { IncomingMessages } from "../incoming.ts";
import { keptEnvelope } from "../kept-response.ts";
import { errorTrailers } from "../status.ts";
import { parseTimeout } from "../timeout.ts";
import { type CallObserver, ServerCall } from "./call.ts";

/** A service and the handlers that answer it, made by {@link implement}. */
export interface Implementation {
  readonly service: DescService;
  readonly handlers: Readonly<Record<string, unknown>>;
}

/** Ties connect handlers to their service. A method without a handler answers Unimplemented. */
export function implement<S extends DescService>(
  service: S,
  handlers: Partial<ServiceImpl<S>>,
): Implementation {
  return { service, handlers: handlers as Readonly<Record<string, unknown>> };
}

type Request = Message;
type Response = Record<string, unknown>;
type Unary = (request: Request, context: HandlerContext) => Promise<Response> | Response;
type ServerStreaming = (request: Request, context: HandlerContext) => AsyncIterable<Response>;
type ClientStreaming = (requests: AsyncIterable<Request>, context: HandlerContext) => Promise<Response>;
type Bidi = (requests: AsyncIterable<Request>, context: HandlerContext) => AsyncIterable<Response>;

interface Route {
  readonly method: DescMethod;
  readonly handler: unknown;
}

export interface RouterOptions {
  readonly implementations: readonly Implementation[];
  /** Largest message in either direction, in bytes. */
  readonly maxMessageBytes: number;
  readonly observe: CallObserver;
}

/** Answers HTTP/2 streams with the handlers of some services. Nothing that a client sends makes it throw. */
export class Router {
  readonly #routes = new Map<string, Route>();
  readonly #options: RouterOptions;

  constructor(options: RouterOptions) {
    this.#options = options;
    for (const { service, handlers } of options.implementations) {
      for (const method of service.methods) {
        const handler = handlers[method.localName];
        if (typeof handler === "function") {
          this.#routes.set(`/${service.typeName}/${method.name}`, {
            method,
            handler: handler.bind(handlers),
          });
        }
      }
    }
  }

  /** Listener for the `stream` event of an HTTP/2 server or server session. */
  readonly onStream = (
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    _flags: number,
    raw: readonly string[],
  ): void => {
    // The reason of a broken stream is told to the call by its `close` event.
    stream.on("error", () => undefined);
    const contentType = headers["content-type"];
    if (headers[":method"] !== "POST" || contentType === undefined || !isGrpc(contentType)) {
      stream.respond(
        { ":status": contentType === undefined || isGrpc(contentType) ? 405 : 415 },
        { endStream: true },
      );
      return;
    }
    const path = headers[":path"] ?? "";
    const route = this.#routes.get(path);
    if (route === undefined) {
      refuseUnknown(stream, path, this.#options.observe);
      return;
    }
    const call = new ServerCall(stream, headers, raw, route.method, this.#options.observe);
    stream.on("close", () => call.abandon());
    try {
      const timeout = headers["grpc-timeout"];
      if (timeout !== undefined) {
        call.startDeadline(parseTimeout(String(timeout)));
      }
      this.#dispatch(call, route, encodingOf(headers));
    } catch (thrown) {
      call.fail(thrown);
    }
  };

  #dispatch(call: ServerCall, { method, handler }: Route, encoding: string | undefined): void {
    const limits: ReadLimits = { maxBytes: this.#options.maxMessageBytes, encoding };
    switch (method.methodKind) {
      case "unary":
        readOne(call, limits, (request) => this.#answerUnary(call, handler as Unary, request));
        break;
      case "server_streaming":
        readOne(call, limits, (request) => {
          this.#answerStream(call, (handler as ServerStreaming)(request, call));
        });
        break;
      case "client_streaming":
        this.#answerLater(call, (handler as ClientStreaming)(readAll(call, limits), call));
        break;
      case "bidi_streaming":
        this.#answerStream(call, (handler as Bidi)(readAll(call, limits), call));
        break;
    }
  }

  #answerUnary(call: ServerCall, handler: Unary, request: Request): void {
    const response = handler(request, call);
    if (response instanceof Promise) {
      this.#answerLater(call, response);
    } else {
      this.#succeed(call, response);
    }
  }

  #answerLater(call: ServerCall, response: Promise<Response>): void {
    response.then(
      (message) => this.#succeed(call, message),
      (thrown: unknown) => call.fail(thrown),
    );
  }

  #succeed(call: ServerCall, response: Response): void {
    if (call.ended) {
      return;
    }
    try {
      call.succeed(this.#encode(call, response));
    } catch (thrown) {
      call.fail(thrown);
    }
  }

  /** Sends what the handler yields, no faster than the client reads, until it ends or nobody listens any more. */
  #answerStream(call: ServerCall, responses: AsyncIterable<Response>): void {
    const iterator = responses[Symbol.asyncIterator]();
    call.onAbort(() => {
      // Its own failure while it is being ended tells nobody anything: the call has its status already.
      iterator.return?.().catch(() => undefined);
    });
    const pump = async () => {
      while (!call.ended) {
        const result = await iterator.next();
        if (result.done === true) {
          return call.succeed();
        }
        await call.write(this.#encode(call, result.value));
      }
    };
    pump().catch((thrown: unknown) => call.fail(thrown));
  }

  #encode(call: ServerCall, response: Response): Buffer {
    const { output } = call.method;
    return (
      keptEnvelope(response) ??
      envelope(toBinary(output, create(output, response)), this.#options.maxMessageBytes)
    );
  }
}

/** Reads the one request of a call and hands it over when the client has sent all it wanted to send. */
function readOne(call: ServerCall, limits: ReadLimits, use: (request: Request) => void): void {
  const reader = new EnvelopeReader(limits);
  const { stream } = call;
  let message: Uint8Array | undefined;
  stream.on("data", (chunk: Buffer) => {
    guard(call, () => {
      for (const next of reader.push(chunk)) {
        if (message !== undefined) {
          throw new InvalidArgumentError(
            `Cannot call ${call.method.name}: it takes one message, want no second one`,
          );
        }
        message = next;
      }
    });
  });
  stream.on("end", () => {
    guard(call, () => {
      reader.end();
      if (message === undefined) {
        throw new InvalidArgumentError(
          `Cannot call ${call.method.name}: the request has no message, want one`,
        );
      }
      call.request = decode(call.method, message);
      use(call.request);
    });
  });
}

/** The requests of a call as they come. Fails when the client goes away before it has ended its side. */
function readAll(call: ServerCall, limits: ReadLimits): IncomingMessages<Request> {
  const reader = new EnvelopeReader(limits);
  const { stream } = call;
  const messages = new IncomingMessages<Request>(stream);
  const fail = (thrown: unknown) => {
    messages.fail(thrown);
    call.fail(thrown);
  };
  stream.on("data", (chunk: Buffer) => {
    try {
      for (const message of reader.push(chunk)) {
        messages.push(decode(call.method, message));
      }
    } catch (thrown) {
      fail(thrown);
    }
  });
  stream.on("end", () => {
    try {
      reader.end();
      messages.end();
    } catch (thrown) {
      fail(thrown);
    }
  });
  call.signal.addEventListener("abort", () => messages.fail(call.signal.reason), { once: true });
  return messages;
}

/** Runs `step` unless the call has ended; what it throws fails the call. */
function guard(call: ServerCall, step: () => void): void {
  if (call.ended) {
    return;
  }
  try {
    step();
  } catch (thrown) {
    call.fail(thrown);
  }
}

function decode(method: DescMethod, bytes: Uint8Array): Request {
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

/** `application/grpc`, also with `+proto` or parameters: what gRPC clients send. */
function isGrpc(contentType: string): boolean {
  return contentType === "application/grpc" || /^application\/grpc(\+proto)?(;|$)/.test(contentType);
}

function encodingOf(headers: IncomingHttpHeaders): string | undefined {
  const encoding = headers["grpc-encoding"];
  if (encoding === undefined || encoding === "identity" || encoding === "gzip") {
    return encoding;
  }
  throw new UnimplementedError(
    `Cannot read messages in encoding ${JSON.stringify(encoding)}: want gzip or identity`,
  );
}

function refuseUnknown(stream: ServerHttp2Stream, path: string, observe: CallObserver): void {
  const [, service = "", method = ""] = path.split("/");
  const unknown = new UnimplementedError(
    `Cannot call method ${JSON.stringify(method)} of service ${JSON.stringify(service)}: this server does not have it`,
  );
  stream.respond(
    { ":status": 200, "content-type": "application/grpc+proto", ...errorTrailers(unknown) },
    { endStream: true },
  );
  observe({ rpc: path.slice(1, 200), durationMs: 0 }, unknown);
}
