import { lookup } from "node:dns/promises";
import { type AgentOptions, Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { connect as connectTcp, isIP, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls, createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { openSocketIn } from "./open-socket.ts";

/** How long each address of a host has to answer. */
const connectTimeoutMs = 30_000;

/** With connections that are kept for later requests, and without. */
const reusing: AgentOptions = { keepAlive: true, maxFreeSockets: 16 };
const fresh: AgentOptions = { keepAlive: false };

type Connected = (error: Error | null, connection: Duplex) => void;

/** Where a connection leads. */
interface Place {
  readonly host: string;
  readonly port: number;
}

interface Agents {
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
}

let systemContext: SecureContext | undefined;

/**
 * The way out of a proxy: connections from the network name space of its choice. Disposing closes them all.
 *
 * Names are looked up by the worker, wherever it connects from.
 */
export class Egress implements Disposable {
  readonly #namespacePath: string | undefined;
  readonly #connections = new Set<Socket>();
  #isClosed = false;
  readonly #reusing: Agents;
  readonly #fresh: Agents;

  /** @param namespacePath where the name space is pinned; undefined for the worker's own. */
  constructor(namespacePath: string | undefined) {
    this.#namespacePath = namespacePath;
    const connect = (place: Place) => this.#connect(place);
    this.#reusing = { http: new PlainAgent(connect, reusing), https: new TlsAgent(connect, reusing) };
    this.#fresh = { http: new PlainAgent(connect, fresh), https: new TlsAgent(connect, fresh) };
  }

  /** @param mayReuse whether a connection of earlier requests will do, which its server may be just about to close. */
  agentFor(scheme: keyof Agents, mayReuse: boolean): HttpAgent {
    return (mayReuse ? this.#reusing : this.#fresh)[scheme];
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const { http, https } of [this.#reusing, this.#fresh]) {
      http.destroy();
      https.destroy();
    }
    for (const connection of this.#connections) {
      connection.destroy();
    }
  }

  /** @throws what the connection to the last address of the host has failed with. */
  async #connect({ host, port }: Place): Promise<Socket> {
    if (this.#namespacePath === undefined) {
      return await this.#established(connectTcp({ host, port }), host);
    }
    const addresses = isIP(host) === 0 ? await lookup(host, { all: true }) : [{ address: host }];
    let failure: unknown = new Error(`Cannot connect to ${host}: it has no address`);
    for (const { address } of addresses) {
      try {
        return await this.#established(await open(this.#namespacePath, address, port), address);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  async #established(socket: Socket, address: string): Promise<Socket> {
    this.#connections.add(socket);
    // Whoever uses it listens, too; but not to what TLS is spoken over.
    socket.on("error", () => undefined);
    socket.once("close", () => this.#connections.delete(socket));
    if (this.#isClosed) {
      socket.destroy();
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(
      () => socket.destroy(new Error(`Cannot connect to ${address}: no answer within 30 seconds`)),
      connectTimeoutMs,
    );
    socket.once("connect", resolve);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("connection closed before it was established")));
    try {
      await promise;
      return socket;
    } finally {
      clearTimeout(timer);
      socket.removeListener("error", reject);
    }
  }
}

/** A socket that begins to connect to `address` from the name space at `namespacePath`. */
async function open(namespacePath: string, address: string, port: number): Promise<Socket> {
  const fd = await openSocketIn(namespacePath, isIP(address) === 6 ? "connect 6" : "connect 4");
  // Without manualStart it would read before it is connected.
  const socket = new Socket({ fd, manualStart: true } as ConstructorParameters<typeof Socket>[0]);
  return socket.connect({ host: address, port, autoSelectFamily: false });
}

/** Connects as it is told to, in place of Node's own way. */
class PlainAgent extends HttpAgent {
  readonly #connect: (place: Place) => Promise<Socket>;

  constructor(connect: (place: Place) => Promise<Socket>, options: AgentOptions) {
    super(options);
    this.#connect = connect;
  }

  override createConnection(options: object, connected?: Connected): undefined {
    handOver(this.#connect(options as Place), connected);
  }
}

class TlsAgent extends HttpsAgent {
  readonly #connect: (place: Place) => Promise<Socket>;

  constructor(connect: (place: Place) => Promise<Socket>, options: AgentOptions) {
    super(options);
    this.#connect = connect;
  }

  override createConnection(options: object, connected?: Connected): undefined {
    const { host, port } = options as Place;
    const secure = this.#connect({ host, port }).then((socket) =>
      connectTls({
        socket,
        host,
        servername: isIP(host) === 0 ? host : "",
        secureContext: trustOfThisMachine(),
        ALPNProtocols: ["http/1.1"],
      }),
    );
    handOver(secure, connected);
  }
}

function handOver(connecting: Promise<Duplex>, connected: Connected | undefined): void {
  connecting.then(
    (connection) => connected?.(null, connection),
    // Agents look at the error alone then.
    (error: unknown) => connected?.(error as Error, undefined as unknown as Duplex),
  );
}

/** Whom the worker's machine trusts, beside Node's own list. */
function trustOfThisMachine(): SecureContext {
  systemContext ??= createSecureContext({
    ca: [...new Set([...getCACertificates("default"), ...getCACertificates("system")])],
  });
  return systemContext;
}
