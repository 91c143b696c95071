import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { headersFromRaw } from "../metadata.ts";
import { errorFromTrailers, statusOfHttp, statusOfReset } from "../status.ts";
import { timerMs } from "../timeout.ts";

export interface CallStart {
  readonly session: ClientHttp2Session;
  readonly headers: OutgoingHttpHeaders;
  readonly signal: AbortSignal | undefined;
  /** What is left of the call's time in milliseconds, or undefined for no limit. */
  readonly timeoutMs: number | undefined;
}

/**
 * The life of one HTTP/2 stream as a gRPC client sees it: what came first of headers, trailers, reset, abort
 * and deadline decides how the call ended, and it ends once.
 */
export class ClientCall {
  readonly stream: ClientHttp2Stream;
  /** Resolves with undefined when the call ended with OK, else with its error. Never rejects. */
  readonly ended: Promise<ConnectError | undefined>;
  /** Resolves when response headers are here or the call has ended without any. */
  readonly responded: Promise<void>;
  readonly #session: ClientHttp2Session;
  readonly #settleEnded: (error: ConnectError | undefined) => void;
  readonly #settleResponded: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  #headers: IncomingHttpHeaders = {};
  #rawHeaders: readonly string[] = [];
  #rawTrailers: readonly string[] = [];
  #trailers: IncomingHttpHeaders | undefined;
  #done = false;

  /** @throws if `session` takes no more streams; nothing has been sent then. */
  constructor({ session, headers, signal, timeoutMs }: CallStart) {
    const ended = Promise.withResolvers<ConnectError | undefined>();
    const responded = Promise.withResolvers<void>();
    this.ended = ended.promise;
    this.responded = responded.promise;
    this.#settleEnded = ended.resolve;
    this.#settleResponded = responded.resolve;
    this.#session = session;
    this.stream = session.request(headers);
    this.#signal = signal;
    if (timeoutMs !== undefined) {
      this.#timer = setTimeout(this.#onDeadline, timerMs(timeoutMs));
    }
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#listen();
  }

  get header(): Headers {
    return headersFromRaw(this.#rawHeaders);
  }

  /** Trailers; empty until the call has ended. */
  get trailer(): Headers {
    return headersFromRaw(this.#trailers === this.#headers ? this.#rawHeaders : this.#rawTrailers);
  }

  /** The response's `grpc-encoding`. */
  get encoding(): string | undefined {
    const encoding = this.#headers["grpc-encoding"];
    return typeof encoding === "string" ? encoding : undefined;
  }

  /** The server has said that it did nothing about this call, so it may be sent again. */
  get refusedUnseen(): boolean {
    return this.stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
  }

  /** The connection has gone before the server could say how the call ended; it may have done it or not. */
  get connectionLost(): boolean {
    return this.#trailers === undefined && this.#session.destroyed;
  }

  /** Takes the call back and ends it with `error`. */
  cancel(error: ConnectError): void {
    if (!this.#done) {
      this.stream.close(constants.NGHTTP2_CANCEL);
      this.#end(error);
    }
  }

  #listen(): void {
    const { stream } = this;
    stream.on("response", (headers, _flags, raw: readonly string[]) => {
      this.#headers = headers;
      this.#rawHeaders = raw;
      if (headers["grpc-status"] !== undefined) {
        this.#trailers = headers;
      }
      this.#settleResponded();
    });
    stream.on("trailers", (trailers, _flags, raw?: readonly string[]) => {
      this.#trailers = trailers;
      this.#rawTrailers = raw ?? Object.entries(trailers).flatMap(([name, value]) => [name, String(value)]);
    });
    stream.on("end", () => {
      if (this.#trailers !== undefined) {
        this.#end(errorFromTrailers(this.#trailers, () => this.trailer));
      }
    });
    // The `close` event follows and knows as much.
    stream.on("error", () => undefined);
    stream.on("close", () => this.#end(this.#whyClosed()));
  }

  #whyClosed(): ConnectError | undefined {
    if (this.#trailers !== undefined) {
      return errorFromTrailers(this.#trailers, () => this.trailer);
    }
    if (this.#session.destroyed) {
      return new ConnectError("the connection was lost before the call ended", Code.Unavailable);
    }
    const { rstCode } = this.stream;
    const httpStatus = Number(this.#headers[":status"] ?? 200);
    if (httpStatus !== 200) {
      const { code, message } = statusOfHttp(httpStatus);
      return new ConnectError(message, code);
    }
    if (rstCode !== undefined && rstCode !== constants.NGHTTP2_NO_ERROR) {
      const { code, message } = statusOfReset(rstCode);
      return new ConnectError(message, code);
    }
    return new ConnectError("the server ended the stream without a status", Code.Internal);
  }

  readonly #onDeadline = (): void => {
    this.cancel(new ConnectError("the deadline of the call has passed", Code.DeadlineExceeded));
  };

  readonly #onAbort = (): void => {
    this.cancel(abortError(this.#signal));
  };

  #end(error: ConnectError | undefined): void {
    if (this.#done) {
      return;
    }
    this.#done = true;
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#settleEnded(error);
    this.#settleResponded();
  }
}

/** The error of a call that its caller has taken back; a `ConnectError` given as the reason is passed on. */
export function abortError(signal: AbortSignal | undefined): ConnectError {
  const reason: unknown = signal?.reason;
  if (reason instanceof ConnectError) {
    return reason;
  }
  const code =
    reason instanceof Error && reason.name === "TimeoutError" ? Code.DeadlineExceeded : Code.Canceled;
  return new ConnectError("the call was canceled", code, undefined, undefined, reason);
}
