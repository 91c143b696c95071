import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

/** What the server behind has answered. */
export interface GoodAnswer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
  /** The whole of what it was asked for a part of. */
  readonly whole: () => Promise<Buffer>;
}

/** Answers a request for a blob otherwise than it should be. @returns whether it has, or will. */
export type Mishap = (incoming: IncomingMessage, response: ServerResponse, good: GoodAnswer) => boolean;

/** A reverse proxy in this process, as registries have them, that can be told to misbehave. */
export interface UnrulyFront extends AsyncDisposable {
  /** Address and port. */
  readonly host: string;
  /** What the next requests for blobs meet; undefined: nothing. */
  mishap: Mishap | undefined;
}

/** Sends what the server at `host`, an address and port, answers. */
export async function startUnrulyFront(host: string): Promise<UnrulyFront> {
  const server = createServer((incoming, response) => {
    answer(incoming, response).catch(() => response.destroy());
  });
  const answer = async (incoming: IncomingMessage, response: ServerResponse) => {
    const good = await answerOf(host, incoming);
    const isBlob = incoming.method === "GET" && /\/blobs\/sha256:/.test(incoming.url ?? "");
    if (!isBlob || front.mishap?.(incoming, response, good) !== true) {
      response.writeHead(good.status, good.headers).end(good.body);
    }
  };
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const front: UnrulyFront = {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    mishap: undefined,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return front;
}

async function answerOf(
  host: string,
  { method, url, headers }: Pick<IncomingMessage, "method" | "url" | "headers">,
): Promise<GoodAnswer> {
  // What a server signs is for itself, and not for the one behind it.
  const path = (url ?? "").replace(/[?&]signature=.*$/, "");
  const forwarded = request(`http://${host}${path}`, {
    method,
    headers: { ...headers, connection: "close" },
  });
  forwarded.end();
  const [answered] = (await once(forwarded, "response")) as [IncomingMessage];
  const { "transfer-encoding": _coding, connection: _connection, ...rest } = answered.headers;
  const { range: _range, ...unlimited } = headers;
  const whole = async () => (await answerOf(host, { method, url, headers: unlimited })).body;
  return { status: answered.statusCode ?? 500, headers: rest, body: await buffer(answered), whole };
}
