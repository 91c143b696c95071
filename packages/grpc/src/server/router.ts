import { create, type DescMethod, type DescService, type Message, toBinary } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { ResourceExhaustedError, UnimplementedError } from "@oci-worker/errdefs";
import { envelope, type ReadLimits } from "../envelope.ts";
import { maxHeaderListBytes } from "../http2/header-blocks.ts";
import { encodeFields } from "../http2/hpack/encoder.ts";
import type { RequestHead } from "../http2/request-head.ts";
import type { ServerStream } from "../http2/server-stream.ts";
import { keptEnvelope } from "../kept-response.ts";
import { errorTrailers } from "../status.ts";
import { parseTimeout } from "../timeout.ts";
import { type CallObserver, responseHeaders, ServerCall } from "./call.ts";
import { MessageStream, OneMessage } from "./requests.ts";

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

  /** Takes a request of a connection. */
  readonly onStream = (stream: ServerStream): void => {
    const { head } = stream;
    const contentType = head.field("content-type");
    if (head.method !== "POST" || contentType === undefined || !isGrpc(contentType)) {
      const status = contentType === undefined || isGrpc(contentType) ? "405" : "415";
      stream.end(encodeFields([":status", status]));
      return;
    }
    const route = this.#routes.get(head.path);
    if (route === undefined) {
      refuseUnknown(stream, head.path, this.#options.observe);
      return;
    }
    const call = new ServerCall(stream, route.method, this.#options.observe);
    try {
      const timeout = head.field("grpc-timeout");
      if (timeout !== undefined) {
        call.startDeadline(parseTimeout(timeout));
      }
      if (head.isTooLarge) {
        throw new ResourceExhaustedError(
          `Cannot call ${route.method.name}: its metadata are over the limit of ${maxHeaderListBytes} bytes`,
        );
      }
      this.#dispatch(call, route, encodingOf(head));
    } catch (thrown) {
      call.fail(thrown);
    }
  };

  #dispatch(call: ServerCall, { method, handler }: Route, encoding: string | undefined): void {
    const limits: ReadLimits = { maxBytes: this.#options.maxMessageBytes, encoding };
    switch (method.methodKind) {
      case "unary":
        call.stream.sink = new OneMessage(call, limits, (request) => {
          this.#answerUnary(call, handler as Unary, request);
        });
        break;
      case "server_streaming":
        call.stream.sink = new OneMessage(call, limits, (request) => {
          this.#answerStream(call, (handler as ServerStreaming)(request, call));
        });
        break;
      case "client_streaming": {
        const requests = new MessageStream(call, limits);
        call.stream.sink = requests;
        this.#answerLater(call, (handler as ClientStreaming)(requests.messages, call));
        break;
      }
      case "bidi_streaming": {
        const requests = new MessageStream(call, limits);
        call.stream.sink = requests;
        this.#answerStream(call, (handler as Bidi)(requests.messages, call));
        break;
      }
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

/** `application/grpc`, also with `+proto` or parameters: what gRPC clients send. */
function isGrpc(contentType: string): boolean {
  return contentType === "application/grpc" || /^application\/grpc(\+proto)?(;|$)/.test(contentType);
}

function encodingOf(head: RequestHead): string | undefined {
  const encoding = head.field("grpc-encoding");
  if (encoding === undefined || encoding === "identity" || encoding === "gzip") {
    return encoding;
  }
  throw new UnimplementedError(
    `Cannot read messages in encoding ${JSON.stringify(encoding)}: want gzip or identity`,
  );
}

function refuseUnknown(stream: ServerStream, path: string, observe: CallObserver): void {
  const [, service = "", method = ""] = path.split("/");
  const unknown = new UnimplementedError(
    `Cannot call method ${JSON.stringify(method)} of service ${JSON.stringify(service)}: this server does not have it`,
  );
  stream.end(encodeFields([...responseHeaders, ...errorTrailers(unknown)]));
  observe({ rpc: path.slice(1, 200), durationMs: 0 }, unknown);
}
