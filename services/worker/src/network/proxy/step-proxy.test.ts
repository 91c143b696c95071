import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener, request } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { Authority } from "./authority.ts";
import { StepProxy } from "./step-proxy.ts";

const authority = await Authority.create();

/** A server, and a proxy in the network name space of this process. */
async function fixture(answer: RequestListener) {
  await using undo = new AsyncDisposableStack();
  const server = createServer(answer);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  undo.defer(async () => {
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  });
  const proxy = await StepProxy.open("/proc/self/ns/net", undefined, authority);
  let closed = false;
  const close = async () => {
    closed = true;
    return await proxy.close();
  };
  undo.defer(async () => void (closed || (await close())));
  const owned = undo.move();
  return {
    server,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    proxyPort: Number(new URL(proxy.url).port),
    close,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What comes back on a connection to `port` on which `text` was sent, until it is closed. */
async function said(port: number, text: string): Promise<string> {
  const connection = connect(port, "127.0.0.1");
  connection.write(text);
  return Buffer.concat(await Array.fromAsync(connection)).toString();
}

describe("a proxy", () => {
  test("passes on what is meant for the server, and keeps what is meant for itself", async () => {
    const seen = Promise.withResolvers<readonly string[]>();
    await using on = await fixture(({ rawHeaders }, response) => {
      seen.resolve(rawHeaders);
      const back = ["Set-Cookie", "a=1", "X-Hop", "no", "Set-Cookie", "b=2", "Connection", "close, x-hop"];
      response.writeHead(200, "Fine", back);
      response.end("body");
    });
    const answer = await said(
      on.proxyPort,
      `GET ${on.url}/ HTTP/1.1\r\nHost: other.example\r\nX-One: 1\r\nx-one: 2\r\nProxy-Authorization: secret\r\nX-Mine: m\r\nConnection: close, X-Mine\r\nUpgrade: websocket\r\n\r\n`,
    );
    assert.deepEqual(await seen.promise, [
      ...["Host", on.url.slice("http://".length), "X-One", "1", "x-one", "2"],
      ...["Connection", "keep-alive"],
    ]);
    const [head = "", body] = answer.split("\r\n\r\n");
    assert.match(head, /^HTTP\/1\.1 200 Fine\r\n/);
    assert.match(head, /\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n/);
    assert.doesNotMatch(head, /X-Hop/i);
    assert.match(body ?? "", /body/);
  });

  test("hangs up in the middle of an answer that its server does not end", async () => {
    await using on = await fixture((_, response) => {
      response.write("beginning", () => response.destroy());
    });
    const asking = request({ port: on.proxyPort, host: "127.0.0.1", path: `${on.url}/`, agent: false });
    asking.end();
    const [answer] = await once(asking, "response");
    await assert.rejects(Array.fromAsync(answer), /aborted/);
  });

  test("asks once more if the server has closed a connection that was kept open", async () => {
    let [connections, requests] = [0, 0];
    await using on = await fixture((asked, response) => {
      requests += 1;
      if (requests === 2) {
        asked.socket.destroy();
      } else {
        response.end(`${requests}`);
      }
    });
    on.server.on("connection", () => {
      connections += 1;
    });
    const ask = () => said(on.proxyPort, `GET ${on.url}/ HTTP/1.0\r\n\r\n`);
    assert.match(await ask(), /\r\n\r\n1$/);
    assert.match(await ask(), /\r\n\r\n3$/);
    assert.equal(connections, 2);
    assert.equal((await on.close()).requests.length, 2);
  });

  test("refuses what it cannot make sense of, and goes on", async () => {
    await using on = await fixture((_, response) => response.end("fine"));
    for (const line of ["GET ftp://a.example/", "GET /", "CONNECT nowhere:port", "CONNECT :1", "nonsense"]) {
      assert.match(await said(on.proxyPort, `${line} HTTP/1.1\r\nHost:\r\n\r\n`), /^HTTP\/1\.1 400 /, line);
    }
    const noTls = await said(
      on.proxyPort,
      "CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    assert.doesNotMatch(noTls, /fine/);
    assert.match(await said(on.proxyPort, `GET ${on.url}/ HTTP/1.0\r\n\r\n`), /fine$/);
    assert.deepEqual((await on.close()).requests, [{ method: "GET", url: `${on.url}/`, status: 200 }]);
  });

  test("takes no more connections of a step than a worker can spare", async () => {
    await using on = await fixture((_, response) => response.end("fine"));
    const connections = Array.from({ length: 600 }, () => connect(on.proxyPort, "127.0.0.1"));
    let dropped = 0;
    const someDropped = Promise.withResolvers<void>();
    for (const connection of connections) {
      connection.on("error", () => undefined);
      connection.on("close", () => {
        dropped += 1;
        if (dropped === 600 - 512) {
          someDropped.resolve();
        }
      });
    }
    await someDropped.promise;
    await on.close();
    await Promise.all(
      connections.map((connection: Socket) => connection.closed || once(connection, "close")),
    );
  });
});
