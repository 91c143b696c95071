import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream/promises";

/** Does something with a request in place of handing it on. @returns whether it has, or will. */
export type Interception = (
  incoming: IncomingMessage,
  response: ServerResponse,
) => boolean | Promise<boolean>;

/** A reverse proxy in this process that hands on what it gets while it gets it, and can be told to get in the way. */
export interface PushFront extends AsyncDisposable {
  /** Address and port. */
  readonly host: string;
  /** Method and path of what it was asked for, without the query. */
  readonly lines: readonly string[];
  /** Asked about each request; undefined: all are handed on. */
  intercept: Interception | undefined;
}

/** Stands before the registry at `host`, an address and port. */
export async function startPushFront(host: string): Promise<PushFront> {
  const lines: string[] = [];
  const server = createServer((incoming, response) => {
    lines.push(`${incoming.method} ${incoming.url?.replace(/\?.*$/, "")}`);
    answer(incoming, response).catch(() => response.destroy());
  });
  const answer = async (incoming: IncomingMessage, response: ServerResponse) => {
    if ((await front.intercept?.(incoming, response)) === true) {
      return;
    }
    const { method, url, headers } = incoming;
    // It says where to go on by the name that it was asked by.
    const forwarded = request(`http://${host}${url}`, {
      method,
      headers: { ...headers, connection: "close" },
    });
    const answered = once(forwarded, "response") as Promise<[IncomingMessage]>;
    const [, [good]] = await Promise.all([pipeline(incoming, forwarded), answered]);
    const { connection: _connection, ...rest } = good.headers;
    response.writeHead(good.statusCode ?? 500, rest);
    await pipeline(good, response);
  };
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const front: PushFront = {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    lines,
    intercept: undefined,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return front;
}
