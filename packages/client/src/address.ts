import { createSecureContext } from "node:tls";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Channel, type ClientTls, tcpChannel, unixChannel } from "@oci-worker/grpc/channel";

/** How to get at a daemon. */
export interface ClientOptions {
  /** How long a call waits for a daemon that cannot be reached yet, in milliseconds; 0 fails at once. */
  readonly patienceMs?: number;
  /**
   * For `tcp://` addresses: how the daemon proves who it is, and we do. Undefined: nobody proves anything, and what goes over the
   * network can be read and changed on its way.
   */
  readonly tls?: ClientTls;
}

/** HOST:PORT, the host a name, an IPv4 address, or an IPv6 one in brackets. */
const hostAndPort = /^(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+)):(\d{1,5})$/;

/**
 * A channel to the daemon at `address`, such as `unix:///run/oci-worker/worker.sock` or `tcp://builder.example:1234`. Nothing is
 * dialled yet.
 *
 * @throws {InvalidArgumentError} if the address is of another kind, or TLS is not for it or cannot be made of what is given.
 */
export function openChannel(address: string, { patienceMs = 0, tls }: ClientOptions): Channel {
  const [, scheme, rest = ""] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/s.exec(address) ?? [];
  const fail = (reason: string) =>
    new InvalidArgumentError(`Cannot use address ${JSON.stringify(address)}: ${reason}`);
  switch (scheme) {
    case undefined:
      throw fail(`address ${address} does not contain proto, you meant unix://${address} ?`);
    case "unix":
      if (!rest.startsWith("/")) {
        throw fail("its path is not absolute, want unix:///PATH");
      }
      if (tls !== undefined) {
        throw fail("TLS is not for unix sockets, want tcp://HOST:PORT");
      }
      return unixChannel(rest, { patienceMs });
    case "tcp": {
      const [, bracketed, name, digits] = hostAndPort.exec(rest) ?? [];
      const [host, port] = [bracketed ?? name ?? "", Number(digits)];
      if (host === "" || !(port >= 1 && port <= 65_535)) {
        throw fail("want tcp://HOST:PORT with a port from 1 to 65535");
      }
      return tcpChannel({ host, port, ...(tls && { tls: usable(tls) }) }, { patienceMs });
    }
    default:
      throw fail(`${scheme} is not supported, want unix://PATH or tcp://HOST:PORT`);
  }
}

function usable(tls: ClientTls): ClientTls {
  const { ca, cert, key } = tls;
  if ((cert === undefined) !== (key === undefined)) {
    throw new InvalidArgumentError("Cannot use TLS: want a certificate and its key, or neither");
  }
  try {
    createSecureContext({ ca, cert, key });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new InvalidArgumentError(
      `Cannot use TLS: ${why}, want PEM, and a certificate and key that go together`,
      {
        cause,
      },
    );
  }
  return tls;
}
