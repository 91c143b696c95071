import { connect, isIP, type Socket } from "node:net";
import { checkServerIdentity, connect as connectTls } from "node:tls";
import { connectionCodeOf, explainConnectionError } from "@oci-worker/errdefs/connection";

/** A place in the network. */
export interface TcpTarget {
  /** Name or address; an IPv6 one without brackets. */
  readonly host: string;
  readonly port: number;
  /** Undefined: what goes over it can be read and changed on its way. */
  readonly tls?: ClientTls | undefined;
}

/** How a client proves who it is, and the server who that is. Everything is PEM. */
export interface ClientTls {
  /** Authorities, one of which has to have signed the server's certificate; undefined: those of the system. */
  readonly ca?: string | Buffer | undefined;
  /** A certificate with its chain, and its key, for a server that wants to know its clients. */
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
  /** Name or address that the server's certificate has to be for; undefined: the host. */
  readonly serverName?: string;
}

/** When nothing has come for so long, the other machine is asked whether it is still there: a build may be silent for hours. */
const keepAliveMs = 30_000;

/** As the target is told in errors. */
export function addressOf({ host, port }: TcpTarget): string {
  return `tcp://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** The name by which the server is asked, as in `:authority`. */
export function originOf({ host, port, tls }: TcpTarget): string {
  const name = tls?.serverName ?? host;
  return `${tls === undefined ? "http" : "https"}://${name.includes(":") ? `[${name}]` : name}:${port}`;
}

/** Begins to connect. How that ends is told by the events of the socket, a failure to prove who somebody is among them. */
export function dialTcp({ host, port, tls }: TcpTarget): Socket {
  const socket = tls === undefined ? connect({ host, port }) : dialTls(host, port, tls);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, keepAliveMs);
  return socket;
}

function dialTls(host: string, port: number, { ca, cert, key, serverName = host }: ClientTls): Socket {
  return connectTls({
    host,
    port,
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    // What is asked for in the handshake is a name, never an address (RFC 6066, section 3).
    ...(isIP(serverName) === 0 && { servername: serverName }),
    checkServerIdentity: (_host, certificate) => checkServerIdentity(serverName, certificate),
    ALPNProtocols: ["h2"],
    minVersion: "TLSv1.2",
  });
}

/** The other side has ended a connection that was there, or said what makes no sense. */
const isAbrupt = (code: string) => /^(|ECONNRESET|EPIPE|ERR_HTTP2_.*)$/.test(code);

/**
 * What it means that no connection came about. A server tells in so many words only what goes wrong while TLS is agreed upon: one
 * that wants TLS is silent to who does without, and one that does not take a certificate is so after that.
 */
export function explainDial({ tls }: TcpTarget, failure: Error | undefined): string {
  if (/before secure TLS connection/.test(failure?.message ?? "")) {
    return "it does not speak TLS, or not as we do: it ended the connection";
  }
  if (failure !== undefined && !isAbrupt(connectionCodeOf(failure))) {
    return explainConnectionError(failure);
  }
  if (tls === undefined) {
    return "it does not speak HTTP/2 in the clear, want TLS if it speaks that";
  }
  return tls.cert === undefined
    ? "it ended the connection at once, want a certificate if it asks for one"
    : "it ended the connection at once, want a certificate that it takes";
}
