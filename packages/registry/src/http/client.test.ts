import assert from "node:assert/strict";
import { once } from "node:events";
import { copyFile, readFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import {
  FailedPreconditionError,
  ResourceExhaustedError,
  ServiceError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { type FakeHost, fakeHost, urlOn } from "../fake-host.ts";
import type { TlsSettings } from "../host.ts";
import { createAuthority, serverOptions } from "../test-certificates.ts";
import { HttpClient } from "./client.ts";
import { NoTlsError, TransientError } from "./errors.ts";
import { bytesBody, type HttpRequest } from "./request.ts";

const purpose = "fetch it";

function get(url: URL, rest: Partial<HttpRequest> = {}): HttpRequest {
  return { method: "GET", url, purpose, ...rest };
}

async function textOf(client: HttpClient, request: HttpRequest, signal?: AbortSignal): Promise<string> {
  using response = await client.send(request, signal);
  return (await response.bytes(1000)).toString();
}

type ErrorClass = new (...parameters: never[]) => ServiceError;

function fails(promise: Promise<unknown>, kind: ErrorClass, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof ServiceError, String(error));
    assert.equal(error.constructor, kind, error.message);
    assert.match(error.message, message);
    return true;
  });
}

/** A TCP server on loopback. */
async function rawServer(serve: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    serve(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) {
        socket.destroy();
      }
      server.close();
      await once(server, "close");
    },
  };
}

/** A host that redirects to `target` and answers everything else with "here". */
function redirectingHost(status: number, target: () => string): Promise<FakeHost> {
  return fakeHost((response, { line }) => {
    if (line.endsWith(" /start")) {
      response.writeHead(status, { location: target() }).end();
    } else {
      response.end("here");
    }
  });
}

describe("connections", () => {
  test("are kept and used again", async () => {
    await using host = await fakeHost((response) => response.end("ok"));
    using client = new HttpClient();
    for (let count = 0; count < 3; count += 1) {
      assert.equal(await textOf(client, get(urlOn(host, "/"))), "ok");
    }
    assert.equal(host.connections(), 1);
  });

  test("are used again after an answer that nobody has read", async () => {
    await using host = await fakeHost((response) => response.end("short"));
    using client = new HttpClient();
    const count = 20;
    for (let sent = 0; sent < count; sent += 1) {
      using response = await client.send(get(urlOn(host, "/"), { method: sent % 2 === 0 ? "GET" : "HEAD" }));
      assert.equal(response.status, 200);
    }
    // Not all of them: the next request may be sent before the rest of an answer has come.
    assert.ok(host.connections() < count);
  });

  test("that the host has closed meanwhile are no failure", async () => {
    let answers = 0;
    await using host = await fakeHost((response) => {
      answers += 1;
      // The second request comes on the kept connection, which breaks as if it had been closed a moment before.
      if (answers === 2) {
        response.destroy();
      } else {
        response.end("ok");
      }
    });
    using client = new HttpClient();
    assert.equal(await textOf(client, get(urlOn(host, "/"))), "ok");
    assert.equal(
      await textOf(client, get(urlOn(host, "/"), { method: "PUT", body: bytesBody(Buffer.from("x")) })),
      "ok",
    );
    assert.equal(host.connections(), 2);
  });

  test("that nobody takes are UnavailableError", async () => {
    await using host = await fakeHost((response) => response.end());
    const url = urlOn(host, "/");
    await host[Symbol.asyncDispose]();
    using client = new HttpClient();
    await fails(
      client.send(get(url)),
      UnavailableError,
      /^Cannot fetch it from 127\.0\.0\.1:\d+: it refuses/,
    );
  });

  test("that break are TransientError", async () => {
    await using host = await fakeHost((response) => response.destroy());
    using client = new HttpClient();
    await fails(client.send(get(urlOn(host, "/"))), TransientError, /the connection broke \(ECONNRESET\)/);
  });
});

describe("the body of an answer", () => {
  test("may break off, which is a TransientError", async () => {
    await using host = await fakeHost((response) => {
      response.writeHead(200, { "content-length": "10" });
      response.write("half", () => response.destroy());
    });
    using client = new HttpClient();
    await fails(textOf(client, get(urlOn(host, "/"))), TransientError, /from 127\.0\.0\.1:\d+: /);
  });

  test("has a limit", async () => {
    await using host = await fakeHost((response) => response.end("x".repeat(1001)));
    using client = new HttpClient();
    await fails(textOf(client, get(urlOn(host, "/"))), ResourceExhaustedError, /longer than 1000 bytes/);
  });

  test("is not unpacked, so a compressed one is as long as it says", async () => {
    await using host = await fakeHost((response, { headers }) => {
      response.setHeader("content-encoding", "gzip");
      response.end(String(headers["accept-encoding"]));
    });
    using client = new HttpClient();
    assert.equal(await textOf(client, get(urlOn(host, "/"))), "identity");
  });
});

describe("limits of time", () => {
  test("an answer that does not begin", async () => {
    await using host = await fakeHost(() => undefined);
    using client = new HttpClient({ timeouts: { headersMs: 20 } });
    await fails(client.send(get(urlOn(host, "/"))), TransientError, /did not answer within 20 ms/);
  });

  test("an answer that stalls", async () => {
    await using host = await fakeHost((response) => {
      response.writeHead(200, { "content-length": "10" });
      response.write("half");
    });
    using client = new HttpClient({ timeouts: { bodyIdleMs: 20 } });
    await fails(textOf(client, get(urlOn(host, "/"))), TransientError, /stalled, no byte came for 20 ms/);
  });

  test("a TLS handshake that does not end", async () => {
    await using silent = await rawServer(() => undefined);
    using client = new HttpClient({ timeouts: { connectMs: 20 } });
    const url = new URL(`https://${silent.host}/`);
    await fails(client.send(get(url)), TransientError, /no connection came about within 20 ms/);
  });

  test("the time that the reader takes does not count", async ({ mock }) => {
    mock.timers.enable({ apis: ["setTimeout"] });
    const halfIsRead = Promise.withResolvers<void>();
    await using host = await fakeHost(async (response) => {
      response.writeHead(200, { "content-length": "8" });
      response.write("half");
      await halfIsRead.promise;
      response.end("full");
    });
    using client = new HttpClient();
    using response = await client.send(get(urlOn(host, "/")));
    const texts: string[] = [];
    for await (const chunk of response.chunks()) {
      texts.push(chunk.toString());
      mock.timers.tick(3_600_000);
      halfIsRead.resolve();
    }
    assert.deepEqual(texts, ["half", "full"]);
  });

  test("the caller's own", async () => {
    await using host = await fakeHost((response) => {
      response.writeHead(200, { "content-length": "10" });
      response.write("half");
    });
    using client = new HttpClient();
    const abort = new AbortController();
    const reading = textOf(client, get(urlOn(host, "/")), abort.signal);
    await assert.rejects(
      client.send(get(urlOn(host, "/")), AbortSignal.abort(new Error("never mind"))),
      /never mind/,
    );
    abort.abort(new Error("enough"));
    await assert.rejects(reading, /enough/);
  });
});

describe("redirects", () => {
  test("are followed, to relative places too", async () => {
    for (const status of [301, 302, 303, 307, 308]) {
      await using host = await redirectingHost(status, () => "../other?x=1");
      using client = new HttpClient();
      assert.equal(await textOf(client, get(urlOn(host, "/start"))), "here");
      assert.equal(host.lines.at(-1), "GET /other?x=1");
    }
  });

  test("take no credentials and no headers of ours to another host", async () => {
    await using storage = await fakeHost((response) => response.end("here"));
    await using host = await redirectingHost(307, () => `${urlOn(storage, "/blob?signature=s3cret")}`);
    using client = new HttpClient();
    const request = get(urlOn(host, "/start"), {
      headers: { range: "bytes=1-2" },
      originHeaders: { authorization: "Bearer s3cret", "x-own": ["1"] },
    });
    assert.equal(await textOf(client, request), "here");
    assert.equal(host.requests[0]?.headers.authorization, "Bearer s3cret");
    const there = storage.requests[0]?.headers;
    assert.deepEqual(
      [there?.authorization, there?.["x-own"], there?.range],
      [undefined, undefined, "bytes=1-2"],
    );
  });

  test("keep credentials where the origin stays the same", async () => {
    await using host = await redirectingHost(302, () => "/other");
    using client = new HttpClient();
    await textOf(client, get(urlOn(host, "/start"), { originHeaders: { authorization: "Basic x" } }));
    assert.equal(host.requests[1]?.headers.authorization, "Basic x");
  });

  test("do not send what a URL has for a user", async () => {
    await using host = await redirectingHost(302, () => {
      const url = urlOn(host, "/other");
      url.username = "user";
      url.password = "secret";
      return url.href;
    });
    using client = new HttpClient();
    await textOf(client, get(urlOn(host, "/start")));
    assert.equal(host.requests[1]?.headers.authorization, undefined);
  });

  test("send the body again only where the method stays", async () => {
    const body = bytesBody(Buffer.from("content"));
    for (const [status, want] of [
      [307, ["PUT /start", "PUT /other"]],
      [302, ["PUT /start"]],
    ] as const) {
      await using host = await redirectingHost(status, () => "/other");
      using client = new HttpClient();
      using response = await client.send(get(urlOn(host, "/start"), { method: "PUT", body }));
      assert.equal(response.status, status === 307 ? 200 : 302);
      assert.deepEqual(host.lines, want);
      assert.equal(host.requests.at(-1)?.body.toString(), "content");
    }
  });

  test("end somewhere", async () => {
    await using host = await fakeHost((response) => {
      response.writeHead(302, { location: "/again" }).end();
    });
    using client = new HttpClient();
    await fails(client.send(get(urlOn(host, "/"))), UnavailableError, /redirects more than 10 times/);
    assert.equal(host.requests.length, 11);
  });

  test("lead to no other scheme", async () => {
    for (const location of ["file:///etc/passwd", "ftp://x/", "http://[", "javascript:1"]) {
      await using host = await redirectingHost(302, () => location);
      using client = new HttpClient();
      await fails(client.send(get(urlOn(host, "/start"))), FailedPreconditionError, /no http or https URL/);
    }
  });

  test("never lead from https to http", async () => {
    await using authority = await createAuthority();
    await using plain = await fakeHost((response) => response.end("here"));
    await using host = await fakeHost(
      (response) => response.writeHead(302, { location: `${urlOn(plain, "/?token=s3cret")}` }).end(),
      await serverOptions(await authority.issue("host")),
    );
    using client = new HttpClient();
    const request = get(urlOn(host, "/"), { tls: { caFiles: [authority.caFile] } });
    await assert.rejects(client.send(request), (error) => {
      assert.ok(error instanceof FailedPreconditionError);
      assert.match(error.message, /from https to plain http/);
      assert.doesNotMatch(error.message, /s3cret/);
      return true;
    });
    assert.deepEqual(plain.requests, []);
  });

  test("do not take a secret body away from its origin", async () => {
    await using other = await fakeHost((response) => response.end("here"));
    await using host = await redirectingHost(307, () => `${urlOn(other, "/")}`);
    using client = new HttpClient();
    const body = bytesBody(Buffer.from("password=s3cret"));
    const request = get(urlOn(host, "/start"), { method: "POST", body, sameOriginOnly: true });
    await fails(client.send(request), UnavailableError, /it redirects to/);
    assert.deepEqual(other.requests, []);
  });

  test("tell both hosts in an error, and never the query", async () => {
    await using storage = await fakeHost((response) => response.destroy());
    await using host = await redirectingHost(307, () => `${urlOn(storage, "/blob?signature=s3cret")}`);
    using client = new HttpClient();
    await assert.rejects(client.send(get(urlOn(host, "/start"))), (error) => {
      assert.ok(error instanceof TransientError);
      assert.ok(error.message.includes(`${host.host.host}, which redirects to ${storage.host.host}`));
      assert.doesNotMatch(error.message, /s3cret/);
      return true;
    });
  });
});

describe("uploads", () => {
  test("stop when the host has made up its mind", async () => {
    await using server = await rawServer((socket) => {
      socket.once("data", () => {
        socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno");
      });
    });
    using client = new HttpClient();
    const chunk = Buffer.alloc(1024 * 1024);
    const chunks = 1024;
    let sent = 0;
    const body = {
      sizeBytes: chunks * chunk.length,
      *open() {
        for (; sent < chunks; sent += 1) {
          yield chunk;
        }
      },
    };
    using response = await client.send(get(new URL(`http://${server.host}/`), { method: "PUT", body }));
    assert.equal(response.status, 413);
    assert.equal((await response.bytes(10)).toString(), "no");
    assert.ok(sent < chunks);
  });

  test("fail with the error of whoever gives the body", async () => {
    await using host = await fakeHost((response) => response.end());
    using client = new HttpClient();
    const body = {
      sizeBytes: 10,
      *open(): Generator<Uint8Array> {
        yield Buffer.from("half");
        throw new FailedPreconditionError("Cannot read blob: it is gone");
      },
    };
    const sending = client.send(get(urlOn(host, "/"), { method: "PUT", body }));
    await fails(sending, FailedPreconditionError, /^Cannot read blob: it is gone$/);
  });
});

describe("TLS", () => {
  async function answerTo(tls: TlsSettings | undefined, host: FakeHost): Promise<string> {
    using client = new HttpClient();
    return await textOf(client, get(urlOn(host, "/"), { ...(tls && { tls }) }));
  }

  test("trusts a private authority only where it is told to", async () => {
    await using authority = await createAuthority();
    const certificate = await serverOptions(await authority.issue("host"));
    await using host = await fakeHost((response) => response.end("ok"), certificate);
    assert.equal(await answerTo({ caFiles: [authority.caFile] }, host), "ok");
    assert.equal(await answerTo({ insecureSkipVerify: true }, host), "ok");
    await fails(answerTo(undefined, host), FailedPreconditionError, /authority that is not trusted/);
  });

  test("shows a client certificate to its own host and to no other one", async () => {
    await using authority = await createAuthority();
    const ca = await readFile(authority.caFile);
    const certificate = await serverOptions(await authority.issue("host"));
    const seen: (string | undefined)[] = [];
    const mutual = { ...certificate, ca, requestCert: true, rejectUnauthorized: false };
    await using storage = await fakeHost((response) => {
      seen.push(peerOf(response));
      response.end("here");
    }, mutual);
    await using host = await fakeHost((response) => {
      seen.push(peerOf(response));
      response.writeHead(307, { location: `${urlOn(storage, "/")}` }).end();
    }, mutual);
    const tls = { caFiles: [authority.caFile], keyPairs: [await authority.issue("client")] };
    assert.equal(await answerTo(tls, host), "here");
    assert.deepEqual(seen, ["client", undefined]);
  });

  test("reads its files again when they have changed", async () => {
    await using first = await createAuthority();
    await using second = await createAuthority();
    await using host = await fakeHost(
      (response) => response.end("ok"),
      await serverOptions(await second.issue("host")),
    );
    const caFile = join(dirname(first.caFile), "current.pem");
    await copyFile(first.caFile, caFile);
    using client = new HttpClient();
    const request = get(urlOn(host, "/"), { tls: { caFiles: [caFile] } });
    await fails(client.send(request), FailedPreconditionError, /not trusted/);
    await copyFile(second.caFile, caFile);
    assert.equal(await textOf(client, request), "ok");
  });

  test("says which file it cannot use", async () => {
    await using authority = await createAuthority();
    await using host = await fakeHost((response) => response.end(), {});
    await fails(
      answerTo({ caFiles: ["/no/such.pem"] }, host),
      FailedPreconditionError,
      /\/no\/such\.pem: ENOENT/,
    );
    const { certFile } = await authority.issue("client");
    const keyPairs = [{ certFile, keyFile: certFile }];
    await fails(
      answerTo({ keyPairs }, host),
      FailedPreconditionError,
      /Cannot set up TLS from .*client\.pem/,
    );
  });

  test("says that a host speaks none", async () => {
    await using host = await fakeHost((response) => response.end());
    using client = new HttpClient();
    const url = new URL(`https://${host.host.host}/`);
    await fails(client.send(get(url)), NoTlsError, /it does not speak TLS/);
  });
});

/** The name in the certificate that the client has shown. */
function peerOf(response: { readonly socket: unknown }): string | undefined {
  const { socket } = response as { socket: { getPeerCertificate(): { subject?: { CN?: string } } } };
  return socket.getPeerCertificate().subject?.CN;
}

describe("proxies", () => {
  test("serve hosts elsewhere and never this machine", async () => {
    await using proxy = await fakeHost((response) => response.end("by proxy"));
    await using host = await fakeHost((response) => response.end("direct"));
    using client = new HttpClient({ environment: { HTTP_PROXY: urlOn(proxy, "").href } });
    assert.equal(await textOf(client, get(new URL("http://registry.test/v2/"))), "by proxy");
    assert.equal(proxy.lines[0], "GET http://registry.test/v2/");
    assert.equal(await textOf(client, get(urlOn(host, "/"))), "direct");
  });

  test("are asked for a tunnel to hosts with TLS, whose certificate is verified as ever", async () => {
    await using authority = await createAuthority();
    await using host = await fakeHost(
      (response) => response.end("ok"),
      await serverOptions(await authority.issue("registry")),
    );
    const asked: string[] = [];
    await using proxy = await rawServer((socket) => {
      socket.once("data", (request: Buffer) => {
        asked.push(request.toString().split("\r\n", 1)[0] ?? "");
        const target = connect(Number(host.host.host.split(":")[1]), "127.0.0.1");
        target.on("error", () => socket.destroy());
        socket.on("close", () => target.destroy());
        socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
        socket.pipe(target).pipe(socket);
      });
    });
    using client = new HttpClient({ environment: { HTTPS_PROXY: `http://${proxy.host}` } });
    const url = new URL("https://registry.test/");
    const tls = { caFiles: [authority.caFile] };
    assert.equal(await textOf(client, get(url, { tls })), "ok");
    assert.deepEqual(asked, ["CONNECT registry.test:443 HTTP/1.1"]);
    await fails(client.send(get(url)), FailedPreconditionError, /authority that is not trusted/);
    const other = new URL("https://other.test/");
    await fails(client.send(get(other, { tls })), FailedPreconditionError, /is for another name/);
  });

  test("that refuse are told without what the environment has for a password", async () => {
    await using proxy = await rawServer((socket) => {
      socket.once("data", () => socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"));
    });
    using client = new HttpClient({ environment: { HTTPS_PROXY: `http://user:c4n4ry@${proxy.host}` } });
    await assert.rejects(client.send(get(new URL("https://registry.test/"))), (error) => {
      assert.ok(error instanceof TransientError, String(error));
      assert.match(error.message, /tunnel/);
      assert.doesNotMatch(error.message, /c4n4ry/);
      return true;
    });
  });

  test("leave out what NO_PROXY names", async () => {
    await using proxy = await fakeHost((response) => response.end("by proxy"));
    using client = new HttpClient({
      environment: { HTTP_PROXY: urlOn(proxy, "").href, NO_PROXY: "registry.invalid" },
    });
    await assert.rejects(client.send(get(new URL("http://registry.invalid/"))), /its name/);
    assert.deepEqual(proxy.requests, []);
  });
});
