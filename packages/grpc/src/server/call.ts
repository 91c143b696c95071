import {
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import { drained } from "../drained.ts";
import { headersFromRaw, outgoingHeaders, rawValues } from "../metadata.ts";
import { errorTrailers, okTrailers } from "../status.ts";
import { timerMs } from "../timeout.ts";

/** gRPC has no use for the date. */
const respondOptions = { waitForTrailers: true, sendDate: false } as const;

const responseHeaders = { ":status": 200, "content-type": "application/grpc+proto" } as const;

/** The same as a list, which Node has less to do with. */
const responseHeaderList: string[] = Object.entries(responseHeaders).flat().map(String);

/** Told of every call when it has ended; `thrown` is what failed it, as the handler threw it. */
export type CallObserver = (call: CallSummary, thrown: unknown) => void;

export interface CallSummary {
  /** `package.Service/Method`, or the path as received when there is no such method. */
  readonly rpc: string;
  /** From the arrival of the request headers, in milliseconds. */
  readonly durationMs: number;
  /** What was asked; undefined if that could not be read, or may be many messages. */
  readonly request?: Message | undefined;
}

/**
 * One call in the hands of a handler, and the one place that answers its stream: headers and trailers go out
 * exactly once, whoever is first of handler, deadline and client.
 *
 * It is connect's `HandlerContext`. What a handler may never look at (Headers, AbortController) is made when
 * it is first asked for: together they cost more than the rest of a unary call.
 */
export class ServerCall implements HandlerContext {
  readonly method: DescMethod;
  readonly protocolName = "grpc";
  readonly requestMethod = "POST";
  readonly stream: ServerHttp2Stream;
  readonly #headers: IncomingHttpHeaders;
  readonly #raw: readonly string[];
  readonly #observe: CallObserver;
  readonly #startedAt = performance.now();
  #deadlineAt: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #controller: AbortController | undefined;
  #abortReason: unknown;
  #onAbort: (() => void) | undefined;
  #values: ContextValues | undefined;
  #requestHeader: Headers | undefined;
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;
  #trailers: OutgoingHttpHeaders = okTrailers;
  #ended = false;
  /** The one message of a call that has one, as soon as it is there. */
  request: Message | undefined;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    raw: readonly string[],
    method: DescMethod,
    observe: CallObserver,
  ) {
    this.stream = stream;
    this.#headers = headers;
    this.#raw = raw;
    this.method = method;
    this.#observe = observe;
  }

  get service(): DescService {
    return this.method.parent;
  }

  get url(): string {
    return `http://localhost${this.#headers[":path"] ?? ""}`;
  }

  get requestHeader(): Headers {
    this.#requestHeader ??= headersFromRaw(this.#raw);
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    this.#responseHeader ??= new Headers();
    return this.#responseHeader;
  }

  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers();
    return this.#responseTrailer;
  }

  get values(): ContextValues {
    this.#values ??= createContextValues();
    return this.#values;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#ended) {
        this.#controller.abort(this.#abortReason ?? completed());
      }
    }
    return this.#controller.signal;
  }

  readonly timeoutMs = (): number | undefined =>
    this.#deadlineAt === undefined ? undefined : Math.max(0, this.#deadlineAt - performance.now());

  /** True once the client has its answer, or will not hear one any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Every value sent for `name`, repeated fields kept apart. */
  metadataValues(name: string): string[] {
    return rawValues(this.#raw, name);
  }

  /** Ends the call with DeadlineExceeded when `ms` have passed. */
  startDeadline(ms: number): void {
    this.#deadlineAt = this.#startedAt + ms;
    this.#timer = setTimeout(() => {
      this.fail(new ConnectError("the deadline of the call has passed", Code.DeadlineExceeded));
    }, timerMs(ms));
  }

  /** Runs `listener` when the call ends before its handler has: deadline, cancellation, lost connection. */
  onAbort(listener: () => void): void {
    this.#onAbort = listener;
  }

  /** Sends the response headers now, if they have not gone yet. */
  sendHeaders(): void {
    if (this.stream.headersSent || this.stream.destroyed) {
      return;
    }
    const headers = this.#responseHeader === undefined ? responseHeaderList : this.#withResponseHeaders();
    this.stream.respond(headers, respondOptions);
    this.stream.on("wantTrailers", () => this.stream.sendTrailers(this.#trailers));
  }

  /**
   * Sends an envelope.
   *
   * @returns undefined if the next one may follow at once, else a promise of that moment.
   */
  write(framed: Buffer): Promise<void> | undefined {
    if (this.#ended || this.stream.destroyed) {
      return undefined;
    }
    this.sendHeaders();
    return this.stream.write(framed) ? undefined : drained(this.stream);
  }

  /** Ends the call with OK, after a last envelope if there is one. */
  succeed(framed?: Buffer): void {
    if (this.#ended) {
      return;
    }
    if (!this.stream.destroyed) {
      this.sendHeaders();
      if (this.#responseTrailer !== undefined) {
        this.#trailers = { ...outgoingHeaders(this.#responseTrailer), ...okTrailers };
      }
      this.stream.end(framed);
    }
    this.#end(undefined, undefined);
  }

  /** Ends the call with the status of `thrown`: by trailers only, if no headers have gone out yet. */
  fail(thrown: unknown): void {
    if (this.#ended) {
      return;
    }
    if (!this.stream.destroyed) {
      const trailers = errorTrailers(thrown);
      if (this.stream.headersSent) {
        this.#trailers = trailers;
        this.stream.end();
      } else {
        this.stream.respond({ ...responseHeaders, ...trailers }, { endStream: true });
      }
      this.#refuseRest();
    }
    this.#end(thrown, thrown);
  }

  /** Ends the call without an answer, because nobody will hear one. */
  abandon(): void {
    if (!this.#ended) {
      const gone = new ConnectError("the client has gone", Code.Canceled);
      this.#end(gone, gone);
    }
  }

  #end(thrown: unknown, abortReason: unknown): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#abortReason = abortReason;
    if (abortReason !== undefined) {
      this.#onAbort?.();
    }
    this.#controller?.abort(abortReason ?? completed());
    const rpc = `${this.method.parent.typeName}/${this.method.name}`;
    const durationMs = performance.now() - this.#startedAt;
    this.#observe({ rpc, durationMs, request: this.request }, thrown);
  }

  /**
   * A client that is still sending to a call that has its answer is asked to stop (RFC 9113, section 8.1). After the
   * turn of the event loop that writes the answer: nghttp2 would send the reset alone.
   */
  #refuseRest(): void {
    setImmediate(() => {
      if (!this.stream.readableEnded && !this.stream.destroyed) {
        this.stream.close(constants.NGHTTP2_NO_ERROR);
      }
    });
  }

  #withResponseHeaders(): OutgoingHttpHeaders {
    return { ...outgoingHeaders(this.#responseHeader), ...responseHeaders };
  }
}

let completion: ConnectError | undefined;

/**
 * Why the signal of a call that ended well is aborted: made once, because an error costs a stack trace, and not before it
 * is needed, because the first `Headers` of a process loads all of fetch: 25 ms of a start.
 */
function completed(): ConnectError {
  completion ??= new ConnectError("the call has ended", Code.Canceled);
  return completion;
}

/**
 * Sends the response headers of a streaming call at once, and not with its first message: a client may wait for
 * them (BuildKit's wait for `buildkit-current-timestamp`).
 *
 * A call on another server than ours sends them when that server does.
 */
export function sendHeaders(context: HandlerContext): void {
  if (context instanceof ServerCall) {
    context.sendHeaders();
  }
}

/** Every value that the client sent for `name`, repeated fields kept apart. `Headers.get` would join them. */
export function metadataValues(context: HandlerContext, name: string): string[] {
  if (context instanceof ServerCall) {
    return context.metadataValues(name);
  }
  const joined = context.requestHeader.get(name);
  return joined === null ? [] : joined.split(", ");
}
