import { type Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import { TimeLimitError } from "./errors.ts";
import type { Headers, RequestBody } from "./request.ts";

/** Limits of one exchange, in milliseconds. */
export interface Timeouts {
  /** From the start of a request to a connection: name lookup, TCP, TLS, and the tunnel through a proxy. */
  readonly connectMs: number;
  /** Without the other side taking a byte of the request. */
  readonly uploadIdleMs: number;
  /** From the end of the request to the headers of the answer. */
  readonly headersMs: number;
  /** As {@link headersMs} for a request with a body: a registry stores a layer of gigabytes before it answers. */
  readonly commitMs: number;
  /** Without a byte of the answer's body. */
  readonly bodyIdleMs: number;
}

export const defaultTimeouts: Timeouts = {
  connectMs: 15_000,
  uploadIdleMs: 60_000,
  headersMs: 30_000,
  commitMs: 300_000,
  bodyIdleMs: 30_000,
};

export interface Exchange {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: RequestBody | undefined;
  readonly agent: Agent;
  readonly timeouts: Timeouts;
  readonly signal: AbortSignal | undefined;
}

/** An answer whose body has yet to be read. */
export interface Answer {
  readonly message: IncomingMessage;
  /** What is answered. It may still be being sent. */
  readonly request: ClientRequest;
}

/** A kept connection turned out to be closed: the server had given it up before it saw the request. */
export class StaleConnectionError extends Error {
  readonly code = "ECONNRESET";
}

/**
 * Sends one request and waits for the headers of its answer.
 *
 * @throws what Node throws when the connection fails, {@link StaleConnectionError} and {@link TimeLimitError}.
 */
export async function exchange(options: Exchange): Promise<Answer> {
  const { url, method, agent, signal, body } = options;
  signal?.throwIfAborted();
  const send = url.protocol === "https:" ? httpsRequest : httpRequest;
  const length = body === undefined ? {} : { "content-length": String(body.sizeBytes) };
  const request = send(url, {
    method,
    agent,
    headers: { ...(options.headers as Record<string, string>), ...length },
    ...(signal && { signal }),
  });
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  // Stays for good: what happens after the answer has come is told to the reader of its body.
  request.on("error", (error) => reject(isStale(request, error) ? new StaleConnectionError() : error));
  request.on("response", (message) => resolve({ message, request }));
  using watchdog = new Watchdog(request, options);
  sendBody(request, body, watchdog).catch((error: Error) => request.destroy(error));
  return await promise;
}

function isStale(request: ClientRequest, error: NodeJS.ErrnoException): boolean {
  return request.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
}

/** Sends the body until the other side has all of it, or has answered without. */
async function sendBody(
  request: ClientRequest,
  body: RequestBody | undefined,
  watchdog: Watchdog,
): Promise<void> {
  let answered = false;
  request.on("response", () => {
    answered = true;
  });
  for await (const chunk of body?.open() ?? []) {
    if (answered || request.destroyed) {
      return;
    }
    if (!request.write(chunk)) {
      await drained(request);
    }
    watchdog.startPhase();
  }
  if (!answered) {
    request.end();
  }
}

/** Resolves when `request` takes more, or never will. */
function drained(request: ClientRequest): Promise<void> {
  const events = ["drain", "close", "response"];
  return new Promise((resolve) => {
    const settle = () => {
      for (const event of events) {
        request.off(event, settle);
      }
      resolve();
    };
    for (const event of events) {
      request.on(event, settle);
    }
  });
}

/** Destroys a request when the limit of the phase that it is in has passed. */
class Watchdog implements Disposable {
  readonly #request: ClientRequest;
  readonly #timeouts: Timeouts;
  readonly #hasBody: boolean;
  #connected = false;
  #timer: NodeJS.Timeout | undefined;
  #disposed = false;

  constructor(request: ClientRequest, { url, timeouts, body }: Exchange) {
    this.#request = request;
    this.#timeouts = timeouts;
    this.#hasBody = body !== undefined;
    const onConnected = () => {
      this.#connected = true;
      this.startPhase();
    };
    request.once("socket", (socket: Socket) => {
      if (request.reusedSocket || !socket.connecting) {
        onConnected();
      } else {
        socket.once(url.protocol === "https:" ? "secureConnect" : "connect", onConnected);
      }
    });
    request.once("finish", () => this.startPhase());
    this.startPhase();
  }

  /** Gives the phase that the request is in its full time, from now on. */
  startPhase(): void {
    clearTimeout(this.#timer);
    if (!this.#disposed) {
      const [limitMs, what] = this.#phase();
      this.#timer = setTimeout(() => {
        this.#request.destroy(new TimeLimitError(`${what} within ${limitMs} ms`));
      }, limitMs);
    }
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
  }

  #phase(): [limitMs: number, what: string] {
    if (!this.#connected) {
      return [this.#timeouts.connectMs, "no connection came about"];
    }
    if (!this.#request.writableFinished) {
      return [this.#timeouts.uploadIdleMs, "it took no more of the request"];
    }
    return [this.#hasBody ? this.#timeouts.commitMs : this.#timeouts.headersMs, "it did not answer"];
  }
}
