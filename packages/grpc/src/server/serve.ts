import {
  createServer,
  type Http2Server,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerOptions,
} from "node:http2";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { defaultMaxMessageBytes } from "../envelope.ts";
import type { CallObserver } from "./call.ts";
import { type ListenAddress, listen } from "./listen.ts";
import { type Implementation, Router } from "./router.ts";

export type { ListenAddress } from "./listen.ts";

export interface ServeOptions {
  readonly implementations: readonly Implementation[];
  /** Told of every call when it has ended. */
  readonly observe?: CallObserver;
  /** Largest message in either direction, in bytes; 16 MiB as containerd and BuildKit have it. */
  readonly maxMessageBytes?: number;
}

export interface ListenOptions extends ServeOptions {
  readonly addresses: readonly ListenAddress[];
  /** How long calls in flight may go on once the server is being disposed of. */
  readonly drainTimeoutMs?: number;
  /** Asked of every new connection; a text is the reason to close it at once. */
  readonly refuse?: (socket: Socket) => string | undefined;
}

/** A server that listens. Disposing drains it: no new calls, those in flight end or are aborted at the time limit. */
export interface GrpcServer extends AsyncDisposable {
  /** Resolves when it has been disposed of. */
  readonly closed: Promise<void>;
}

const defaultDrainTimeoutMs = 10_000;

/** One connection may hold a thousand calls with full messages before nghttp2 refuses more. */
const sessionMemoryMb = 512;

/** A window of 1 MiB a stream and 16 MiB a connection: a local peer is never held up by round trips. */
const streamWindowBytes = 1024 * 1024;
const connectionWindowBytes = 16 * 1024 * 1024;

const sessionOptions: ServerOptions = {
  maxSessionMemory: sessionMemoryMb,
  settings: { initialWindowSize: streamWindowBytes },
  // Our clients are few and trusted, and a build that is stopped cancels hundreds of calls at a time.
  streamResetBurst: 20_000,
  streamResetRate: 2000,
};

/**
 * Serves gRPC over HTTP/2 without TLS on one or more addresses.
 *
 * @throws {FailedPreconditionError} if a socket is served by another process already.
 */
export async function serve(options: ListenOptions): Promise<GrpcServer> {
  const router = routerOf(options);
  await using undo = new AsyncDisposableStack();
  for (const address of options.addresses) {
    const server = createServer(sessionOptions);
    const sessions = track(server, router);
    if (options.refuse !== undefined) {
      refuseConnections(server, options.refuse);
    }
    undo.defer(() => drain(server, sessions, options.drainTimeoutMs ?? defaultDrainTimeoutMs));
    await listen(server, address);
  }
  const owned = undo.move();
  const closed = Promise.withResolvers<void>();
  return {
    closed: closed.promise,
    async [Symbol.asyncDispose]() {
      await owned.disposeAsync();
      closed.resolve();
    },
  };
}

/**
 * Serves gRPC to the one peer at the other end of `duplex`: a tunnel, or the pipes of a process.
 *
 * @returns the HTTP/2 session; it ends with the stream.
 */
export function serveDuplex(duplex: Duplex, options: ServeOptions): ServerHttp2Session {
  const session = performServerHandshake(duplex, sessionOptions);
  greet(session, routerOf(options));
  return session;
}

function routerOf({ implementations, maxMessageBytes, observe }: ServeOptions): Router {
  return new Router({
    implementations,
    maxMessageBytes: maxMessageBytes ?? defaultMaxMessageBytes,
    observe: observe ?? (() => undefined),
  });
}

/** The open sessions of `server`, for draining. */
function track(server: Http2Server, router: Router): ReadonlySet<ServerHttp2Session> {
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    greet(session, router);
  });
  // A connection that breaks or speaks no HTTP/2 concerns its peer alone, and its calls are told by their streams.
  server.on("sessionError", () => undefined);
  return sessions;
}

function greet(session: ServerHttp2Session, router: Router): void {
  session.on("error", () => undefined);
  session.on("stream", router.onStream);
  session.setLocalWindowSize(connectionWindowBytes);
}

function refuseConnections(server: Http2Server, refuse: (socket: Socket) => string | undefined): void {
  server.prependListener("connection", (socket: Socket) => {
    const reason = refuse(socket);
    if (reason !== undefined) {
      socket.destroy(new Error(reason));
    }
  });
}

/** Stops listening, sends GOAWAY, waits for the calls in flight, and cuts off what is left after `timeoutMs`. */
async function drain(
  server: Http2Server,
  sessions: ReadonlySet<ServerHttp2Session>,
  timeoutMs: number,
): Promise<void> {
  if (!server.listening && sessions.size === 0) {
    return;
  }
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  for (const session of sessions) {
    session.close();
  }
  const timer = setTimeout(() => {
    for (const session of sessions) {
      session.destroy();
    }
  }, timeoutMs);
  await closed;
  clearTimeout(timer);
}
