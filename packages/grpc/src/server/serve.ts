import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { defaultMaxMessageBytes } from "../envelope.ts";
import { ConnectionError } from "../http2/protocol.ts";
import { ServerConnection } from "../http2/server-connection.ts";
import type { CallObserver } from "./call.ts";
import { type ListenAddress, listen } from "./listen.ts";
import type { ConnectionObserver } from "./log-connections.ts";
import { type Implementation, Router } from "./router.ts";
import { createTlsServer } from "./tls-server.ts";

export type { ListenAddress } from "./listen.ts";
export type { ServerTls, TlsSource } from "./tls-server.ts";

export interface ServeOptions {
  readonly implementations: readonly Implementation[];
  /** Told of every call when it has ended. */
  readonly observe?: CallObserver;
  /** Told of every connection that we have ended before its time. */
  readonly observeConnection?: ConnectionObserver;
  /** Largest message in either direction, in bytes; 16 MiB as containerd and BuildKit have it. */
  readonly maxMessageBytes?: number;
}

export interface ListenOptions extends ServeOptions {
  readonly addresses: readonly ListenAddress[];
  /** How long calls in flight may go on once the server is being disposed of. */
  readonly drainTimeoutMs?: number;
  /** A client that has not come through the handshake of TLS by then is cut off. */
  readonly handshakeTimeoutMs?: number;
  /** Asked of every new connection; a text is the reason to close it at once. */
  readonly refuse?: (socket: Socket) => string | undefined;
}

/** A server that listens. Disposing drains it: no new calls, those in flight end or are aborted at the time limit. */
export interface GrpcServer extends AsyncDisposable {
  /** The TCP ports that it listens on, in the order of their addresses. */
  readonly ports: readonly number[];
  /** Resolves when it has been disposed of. */
  readonly closed: Promise<void>;
}

const defaultDrainTimeoutMs = 10_000;

const defaultHandshakeTimeoutMs = 10_000;

/**
 * Serves gRPC over HTTP/2 on one or more addresses, with TLS where one says so.
 *
 * @throws {FailedPreconditionError} if a socket is served by another process already, or there is no such address.
 */
export async function serve(options: ListenOptions): Promise<GrpcServer> {
  const router = routerOf(options);
  await using undo = new AsyncDisposableStack();
  const ports: number[] = [];
  for (const address of options.addresses) {
    const tls = "port" in address ? address.tls : undefined;
    const { server, endHandshakes } =
      tls === undefined
        ? { server: createServer({ noDelay: true }), endHandshakes: () => undefined }
        : createTlsServer(tls, options.handshakeTimeoutMs ?? defaultHandshakeTimeoutMs);
    const event = tls === undefined ? "connection" : "secureConnection";
    const connections = accept(server, event, router, options);
    undo.defer(() => {
      const drained = drain(server, connections, options.drainTimeoutMs ?? defaultDrainTimeoutMs);
      // They have asked for nothing yet, so there is nothing to wait for.
      endHandshakes();
      return drained;
    });
    await listen(server, address);
    if ("port" in address) {
      ports.push((server.address() as AddressInfo).port);
    }
  }
  const owned = undo.move();
  const closed = Promise.withResolvers<void>();
  return {
    ports,
    closed: closed.promise,
    async [Symbol.asyncDispose]() {
      await owned.disposeAsync();
      closed.resolve();
    },
  };
}

/** Serves gRPC to the one peer at the other end of `duplex`: a tunnel, or the pipes of a process. It ends with the stream. */
export function serveDuplex(duplex: Duplex, options: ServeOptions): void {
  const { onStream } = routerOf(options);
  new ServerConnection({ duplex, onStream, onFailure: options.observeConnection ?? warn });
}

function routerOf({ implementations, maxMessageBytes, observe }: ServeOptions): Router {
  return new Router({
    implementations,
    maxMessageBytes: maxMessageBytes ?? defaultMaxMessageBytes,
    observe: observe ?? (() => undefined),
  });
}

/** Where nobody wants to be told of connections, a mistake of ours still does not stay unseen. */
function warn(thrown: unknown): void {
  if (!(thrown instanceof ConnectionError)) {
    process.emitWarning(thrown instanceof Error ? thrown : new Error(String(thrown)));
  }
}

/** The open connections of `server`, for draining. @param event by which it tells of one that is ready. */
function accept(
  server: Server,
  event: "connection" | "secureConnection",
  router: Router,
  { refuse, observeConnection }: ListenOptions,
): ReadonlySet<ServerConnection> {
  const connections = new Set<ServerConnection>();
  server.on(event, (socket: Socket) => {
    const reason = refuse?.(socket);
    if (reason !== undefined) {
      socket.on("error", () => undefined);
      socket.destroy(new Error(reason));
      return;
    }
    const connection = new ServerConnection({
      duplex: socket,
      onStream: router.onStream,
      onFailure: observeConnection ?? warn,
      onClose: () => connections.delete(connection),
    });
    connections.add(connection);
  });
  return connections;
}

/** Stops listening, sends GOAWAY, waits for the calls in flight, and cuts off what is left after `timeoutMs`. */
async function drain(
  server: Server,
  connections: ReadonlySet<ServerConnection>,
  timeoutMs: number,
): Promise<void> {
  if (!server.listening && connections.size === 0) {
    return;
  }
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  for (const connection of connections) {
    connection.drain();
  }
  const timer = setTimeout(() => {
    for (const connection of connections) {
      connection.destroy();
    }
  }, timeoutMs);
  await closed;
  clearTimeout(timer);
}
