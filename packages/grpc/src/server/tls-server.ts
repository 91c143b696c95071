import type { Server, Socket } from "node:net";
import { createServer } from "node:tls";

/** How a server proves who it is, and its clients who they are. Everything is PEM. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
  /** Authorities, one of which has to have signed a client's certificate; undefined asks clients for none. */
  readonly ca?: string;
}

/**
 * Tells how a server proves who it is now: asked for each connection, it gives the same object for as long as that has not
 * changed. Whether clients are asked for a certificate stays as it was at the first time.
 */
export type TlsSource = () => ServerTls;

/** A server of connections that are proven and secret; it tells of each by the event `secureConnection`. */
export interface TlsServer {
  readonly server: Server;
  /** Cuts off who is connected and has not come to the end of the handshake. */
  endHandshakes(): void;
}

const minVersion = "TLSv1.2";

/** @param handshakeTimeoutMs a client that has not proven by then what it has to is cut off. */
export function createTlsServer(source: TlsSource, handshakeTimeoutMs: number): TlsServer {
  let current = source();
  const asksClients = current.ca !== undefined;
  const server = createServer({
    ...current,
    ALPNProtocols: ["h2"],
    handshakeTimeout: handshakeTimeoutMs,
    minVersion,
    noDelay: true,
    rejectUnauthorized: asksClients,
    requestCert: asksClients,
  });
  const handshakes = new Map<string, Socket>();
  // Before Node's own listener, which begins the handshake.
  server.prependListener("connection", (socket: Socket) => {
    const now = source();
    if (now !== current) {
      current = now;
      server.setSecureContext({ ...now, minVersion });
    }
    const peer = peerOf(socket);
    handshakes.set(peer, socket);
    socket.on("close", () => {
      if (handshakes.get(peer) === socket) {
        handshakes.delete(peer);
      }
    });
  });
  server.on("secureConnection", (socket) => handshakes.delete(peerOf(socket)));
  // A handshake that fails concerns its client alone.
  server.on("tlsClientError", () => undefined);
  return {
    server,
    endHandshakes: () => {
      for (const socket of handshakes.values()) {
        socket.destroy();
      }
    },
  };
}

/** What tells the connections of a server apart, and is the same for a connection and for what is secret on it. */
function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
