import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import type { AddressInfo } from "node:net";
import type { RegistryHost } from "./host.ts";

/** A request as a host has seen it. */
export interface SeenRequest {
  /** Such as "GET /v2/library/app/manifests/1". */
  readonly line: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

type Answer = (response: ServerResponse, request: SeenRequest) => unknown;

export interface FakeHost extends AsyncDisposable {
  /** What has been asked of it, in order. */
  readonly requests: SeenRequest[];
  /** The lines of these requests. */
  readonly lines: string[];
  /** Connections that it has accepted. */
  readonly connections: () => number;
  readonly host: RegistryHost;
}

/**
 * An HTTP server on loopback that answers as a test says: the test of what a registry may do wrong.
 *
 * @param answer gets the request when its body is complete. What it throws is told to nobody: the client sees the
 * connection break.
 */
export async function fakeHost(answer: Answer, tls?: ServerOptions): Promise<FakeHost> {
  const requests: SeenRequest[] = [];
  let connections = 0;
  const handle = async (incoming: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) {
      chunks.push(chunk);
    }
    const line = `${incoming.method} ${incoming.url}`;
    const request = { line, headers: incoming.headers, body: Buffer.concat(chunks) };
    requests.push(request);
    await answer(response, request);
  };
  const listener = (incoming: IncomingMessage, response: ServerResponse) => {
    handle(incoming, response).catch(() => response.destroy());
  };
  const server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  server.on("connection", () => {
    connections += 1;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    requests,
    get lines() {
      return requests.map(({ line }) => line);
    },
    connections: () => connections,
    host: {
      scheme: tls === undefined ? "http" : "https",
      host: `127.0.0.1:${port}`,
      path: "/v2",
      capabilities: ["pull", "resolve", "push"],
    },
    async [Symbol.asyncDispose]() {
      if (server.listening) {
        server.closeAllConnections();
        server.close();
        await once(server, "close");
      }
    },
  };
}

/** URL of something on `host`. */
export function urlOn({ host }: FakeHost, path: string): URL {
  return new URL(`${host.scheme}://${host.host}${path}`);
}
