import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import type { Authority } from "./authority.ts";
import { Egress } from "./egress.ts";
import { forward, maxHeaderBytes, refuse } from "./forward.ts";
import { openSocketIn } from "./open-socket.ts";
import { RequestLog, type RequestSummary } from "./request-log.ts";
import { hostAndPort, type Target, targetOf, tunneledTarget } from "./target.ts";

/** A step must not take the descriptors of the worker: each of these is one, and one more on its way out. */
const maxConnections = 512;

/** As upstream's. */
const headersTimeoutMs = 30_000;

/** Where a tunnel of CONNECT leads if it does not say. */
const tunnelPort = 443;

/**
 * The proxy of one step: it listens on the loopback device of the step's network name space, where there is nothing else,
 * and asks from another one.
 *
 * What comes by CONNECT is read, too, with certificates of the authority that the step is shown.
 */
export class StepProxy {
  readonly #authority: Authority;
  readonly #egress: Egress;
  readonly #server: Server;
  readonly #log = new RequestLog();
  readonly #connections = new Set<Socket>();
  /** Where the tunnel leads that a connection has come by. */
  readonly #tunnels = new WeakMap<object, string>();

  private constructor(authority: Authority, egress: Egress) {
    this.#authority = authority;
    this.#egress = egress;
    this.#server = createServer(
      {
        headersTimeout: headersTimeoutMs,
        requestTimeout: 0,
        keepAliveTimeout: 0,
        maxHeaderSize: maxHeaderBytes,
      },
      (request, response) => this.#answer(request, response).catch(() => response.destroy()),
    );
    this.#server.maxConnections = maxConnections;
    this.#server.on("connection", (connection: Socket) => {
      this.#connections.add(connection);
      connection.once("close", () => this.#connections.delete(connection));
    });
    this.#server.on("connect", (request: IncomingMessage, connection: Duplex, head: Buffer) =>
      this.#tunnel(request, connection, head),
    );
  }

  /**
   * @param namespacePath of the step, with no device but loopback, which is turned on.
   * @param egressPath of the name space that is asked from; undefined for the worker's own.
   */
  static async open(
    namespacePath: string,
    egressPath: string | undefined,
    authority: Authority,
  ): Promise<StepProxy> {
    const fd = await openSocketIn(namespacePath, "listen");
    const proxy = new StepProxy(authority, new Egress(egressPath));
    proxy.#server.listen({ fd });
    await once(proxy.#server, "listening");
    return proxy;
  }

  /** As the step names it. */
  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}`;
  }

  /** Ends it and every connection in both directions. @returns what it was asked for. */
  async close(): Promise<RequestSummary> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const connection of this.#connections) {
      connection.destroy();
    }
    this.#egress[Symbol.dispose]();
    await closed;
    return this.#log.summary();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = this.#targetOf(request);
    if (target === undefined) {
      refuse(response, 400, "Cannot tell where this is to go: want a URL of http or https");
      return;
    }
    await forward(request, response, target, this.#egress, this.#log);
  }

  #targetOf({ socket, url = "", headers }: IncomingMessage): Target | undefined {
    const tunnel = this.#tunnels.get(socket);
    return tunnel === undefined ? targetOf(url, headers.host) : tunneledTarget(url, headers.host, tunnel);
  }

  /** Lets a client believe that it speaks with the server it has named, and hears what it says. */
  #tunnel({ url = "" }: IncomingMessage, connection: Duplex, head: Buffer): void {
    const hangUp = () => connection.destroy();
    connection.on("error", hangUp);
    const place = hostAndPort(url, tunnelPort);
    if (place === undefined) {
      connection.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return;
    }
    connection.write("HTTP/1.1 200 Connection Established\r\n\r\n");
    connection.unshift(head);
    const secure = new TLSSocket(connection as Socket, {
      isServer: true,
      secureContext: this.#authority.contextFor(place.host),
      ALPNProtocols: ["http/1.1"],
    });
    secure.on("error", hangUp);
    this.#tunnels.set(secure, url);
    this.#server.emit("connection", secure);
  }
}
