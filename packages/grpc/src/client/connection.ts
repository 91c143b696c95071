import { type ClientHttp2Session, connect } from "node:http2";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { UnavailableError } from "@oci-worker/errdefs";

export interface ConnectionOptions {
  /** What is at the other end, for errors: a socket path, a host and port. */
  readonly target: string;
  /** Scheme and authority that the peer is told; absent: those of a socket on this machine. */
  readonly origin?: string;
  /** Opens the byte stream. It may still be connecting; a failure is its `error` event. */
  readonly dial: () => Duplex;
  /**
   * How long the server may take until it has said that it speaks HTTP/2, in milliseconds; undefined: that is taken for granted as
   * soon as the byte stream is there.
   */
  readonly handshakeTimeoutMs?: number;
  /** What a failed dial means; `failure` is undefined where the other side just ended it. Its own message unless given. */
  readonly explain?: (failure: Error | undefined) => string;
}

/** First wait after a failed dial, what each further one multiplies it with, and the most it gets to. */
const firstBackoffMs = 50;
const backoffFactor = 1.6;
const maxBackoffMs = 3000;

const streamWindowBytes = 1024 * 1024;
const connectionWindowBytes = 16 * 1024 * 1024;

/**
 * One HTTP/2 connection to one target, dialled when first needed and again when it is gone.
 *
 * After a failed dial nothing is dialled until a backoff has passed, however many calls come in between.
 */
export class Connection implements Disposable {
  readonly #options: ConnectionOptions;
  #session: ClientHttp2Session | undefined;
  #dialling: Promise<ClientHttp2Session> | undefined;
  /** The last session that was dialled, whether it has come to be one or not. */
  #dialled: ClientHttp2Session | undefined;
  #backoffMs = 0;
  #retryAt = 0;
  #lastFailure: UnavailableError | undefined;
  readonly #closing = new AbortController();

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** The session if there is one that takes calls, without waiting. */
  get ready(): ClientHttp2Session | undefined {
    const session = this.#session;
    return session !== undefined && !session.closed && !session.destroyed ? session : undefined;
  }

  /**
   * A session that takes calls.
   *
   * @param patienceMs how long to go on dialling while the target cannot be reached; 0 fails at once.
   * @throws {UnavailableError} naming the target and the last failure.
   */
  async session(patienceMs: number, callerSignal: AbortSignal): Promise<ClientHttp2Session> {
    const giveUpAt = performance.now() + patienceMs;
    const signal = AbortSignal.any([callerSignal, this.#closing.signal]);
    for (;;) {
      signal.throwIfAborted();
      const ready = this.ready;
      if (ready !== undefined) {
        return ready;
      }
      const waitMs = this.#retryAt - performance.now();
      if (waitMs > 0) {
        if (performance.now() + waitMs > giveUpAt) {
          throw this.#unreachable();
        }
        await delay(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
        continue;
      }
      try {
        this.#dialling ??= this.#dial();
        return await orAborted(this.#dialling, signal);
      } catch (error) {
        if (signal.aborted || performance.now() >= giveUpAt) {
          throw error;
        }
      }
    }
  }

  [Symbol.dispose](): void {
    this.#closing.abort(new UnavailableError(`Cannot reach ${this.#options.target}: the channel is closed`));
    this.#session?.destroy();
    this.#session = undefined;
    this.#dialled?.destroy();
  }

  #unreachable(): UnavailableError {
    return this.#lastFailure ?? new UnavailableError(`Cannot reach ${this.#options.target}`);
  }

  #dial(): Promise<ClientHttp2Session> {
    const { origin = "http://localhost", dial, handshakeTimeoutMs } = this.#options;
    const stream = dial();
    const session = connect(origin, {
      createConnection: () => stream,
      maxSessionMemory: 512,
      settings: { enablePush: false, initialWindowSize: streamWindowBytes },
    });
    // Node does not do that where TLS fails after it has come about, and the session would never get to its end.
    stream.on("error", () => stream.destroy());
    this.#dialled = session;
    const { promise, resolve, reject } = Promise.withResolvers<ClientHttp2Session>();
    let failure: Error | undefined;
    session.on("error", (error) => {
      failure = error;
    });
    session.on("goaway", () => this.#forget(session));
    session.on("close", () => {
      this.#forget(session);
      this.#failed(failure);
      reject(this.#unreachable());
    });
    const timer =
      handshakeTimeoutMs === undefined
        ? undefined
        : setTimeout(
            () => session.destroy(new Error(`it does not answer within ${handshakeTimeoutMs} ms`)),
            handshakeTimeoutMs,
          );
    session.once("close", () => clearTimeout(timer));
    session.once(handshakeTimeoutMs === undefined ? "connect" : "remoteSettings", () => {
      clearTimeout(timer);
      session.setLocalWindowSize(connectionWindowBytes);
      this.#dialling = undefined;
      this.#session = session;
      this.#backoffMs = 0;
      resolve(session);
    });
    return promise;
  }

  /** A session that has connected and closed later is redialled at once; only failed dials back off. */
  #failed(failure: Error | undefined): void {
    if (this.#dialling === undefined) {
      return;
    }
    this.#dialling = undefined;
    const { target, explain = messageOf } = this.#options;
    const why = explain(failure);
    this.#lastFailure = new UnavailableError(`Cannot reach ${target}${why === "" ? "" : `: ${why}`}`, {
      cause: failure,
    });
    this.#backoffMs = Math.min(maxBackoffMs, Math.max(firstBackoffMs, this.#backoffMs * backoffFactor));
    const jitter = 0.8 + Math.random() * 0.4;
    this.#retryAt = performance.now() + this.#backoffMs * jitter;
  }

  #forget(session: ClientHttp2Session): void {
    if (this.#session === session) {
      this.#session = undefined;
    }
  }
}

function messageOf(failure: Error | undefined): string {
  return failure?.message ?? "";
}

/** `promise`, or the reason of `signal` if that comes first; what was begun goes on for others. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener("abort", onAbort));
}
