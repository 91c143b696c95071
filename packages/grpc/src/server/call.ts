import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import { encodeFields } from "../http2/hpack/encoder.ts";
import type { RequestHead } from "../http2/request-head.ts";
import type { ServerStream } from "../http2/server-stream.ts";
import { headersFromRaw, rawValues } from "../metadata.ts";
import { errorTrailers } from "../status.ts";
import { timerMs } from "../timeout.ts";

/** What every response begins with. */
export const responseHeaders: readonly string[] = [
  ":status",
  "200",
  "content-type",
  "application/grpc+proto",
];
const okTrailers = ["grpc-status", "0"];

/** What nearly every call is answered with, as it goes over the wire. */
const responseBlock = encodeFields(responseHeaders);
const okBlock = encodeFields(okTrailers);

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
  readonly stream: ServerStream;
  readonly #head: RequestHead;
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
  #ended = false;
  /** The one message of a call that has one, as soon as it is there. */
  request: Message | undefined;

  constructor(stream: ServerStream, method: DescMethod, observe: CallObserver) {
    this.stream = stream;
    this.#head = stream.head;
    this.method = method;
    this.#observe = observe;
  }

  get service(): DescService {
    return this.method.parent;
  }

  get url(): string {
    return `http://localhost${this.#head.path}`;
  }

  get requestHeader(): Headers {
    this.#requestHeader ??= headersFromRaw(this.#head.raw);
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
    return rawValues(this.#head.raw, name);
  }

  /** Ends the call with DeadlineExceeded when `ms` have passed. */
  startDeadline(ms: number): void {
    this.#deadlineAt = this.#startedAt + ms;
    this.#timer = setTimeout(() => {
      // The client has given up as well. What it has not taken by now would only be in the way of the reason.
      this.stream.discard();
      this.fail(new ConnectError("the deadline of the call has passed", Code.DeadlineExceeded));
    }, timerMs(ms));
  }

  /** Runs `listener` when the call ends before its handler has: deadline, cancellation, lost connection. */
  onAbort(listener: () => void): void {
    this.#onAbort = listener;
  }

  /** Sends the response headers now, if they have not gone yet. */
  sendHeaders(): void {
    if (this.stream.headersSent) {
      return;
    }
    const own = this.#responseHeader;
    this.stream.respond(
      own === undefined ? responseBlock : encodeFields([...responseHeaders, ...fieldsOf(own)]),
    );
  }

  /**
   * Sends an envelope.
   *
   * @returns undefined if the next one may follow at once, else a promise of that moment.
   */
  write(framed: Buffer): Promise<void> | undefined {
    if (this.#ended) {
      return undefined;
    }
    this.sendHeaders();
    return this.stream.write(framed) ? undefined : this.stream.drained();
  }

  /** Ends the call with OK, after a last envelope if there is one. */
  succeed(framed?: Buffer): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.sendHeaders();
    if (framed !== undefined) {
      this.stream.write(framed);
    }
    const own = this.#responseTrailer;
    this.stream.end(own === undefined ? okBlock : encodeFields([...fieldsOf(own), ...okTrailers]));
    this.#end(undefined, undefined);
  }

  /** Ends the call with the status of `thrown`: by trailers only, if no headers have gone out yet. */
  fail(thrown: unknown): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    const trailers = errorTrailers(thrown);
    this.stream.end(encodeFields(this.stream.headersSent ? trailers : [...responseHeaders, ...trailers]));
    this.#end(thrown, thrown);
  }

  /** Ends the call without an answer, because nobody will hear one. */
  abandon(): void {
    if (!this.#ended) {
      this.#ended = true;
      const gone = new ConnectError("the client has gone", Code.Canceled);
      this.#end(gone, gone);
    }
  }

  /** What is to be done after the call has ended, when it is marked so: the end of its stream leads back here. */
  #end(thrown: unknown, abortReason: unknown): void {
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
}

/** The headers of a handler, but for those that are ours to say. */
function fieldsOf(headers: Headers): string[] {
  const ours: ReadonlySet<string> = new Set(["content-type", "grpc-status", "grpc-message"]);
  return [...headers].filter(([name]) => !ours.has(name)).flat();
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
