import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { Secret } from "@oci-worker/credentials/secret";
import { PermissionDeniedError, ServiceError, UnavailableError } from "@oci-worker/errdefs";
import { HttpClient } from "@oci-worker/registry/http";
import type { Credentials } from "../credentials/identity.ts";
import { fetchToken, TokenServerFailure } from "./fetch-token.ts";

const password: Credentials = { username: "us:er", secret: new Secret("c4n4ry &=") };
const identityToken: Credentials = { username: "", secret: new Secret("refresh-c4n4ry") };

interface Seen {
  readonly line: string;
  readonly authorization: string | undefined;
  readonly form: Readonly<Record<string, string>>;
}

/** A token server that answers as the test says. */
async function tokenServer(
  answer: (response: ServerResponse, seen: Seen) => void,
  attemptTimeoutMs = 30_000,
) {
  const requests: Seen[] = [];
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const seen = {
        line: `${incoming.method} ${incoming.url}`,
        authorization: incoming.headers.authorization,
        form: Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString())),
      };
      requests.push(seen);
      answer(response, seen);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const http = new HttpClient();
  const waits: number[] = [];
  const delay = (ms: number) => {
    waits.push(ms);
    return Promise.resolve();
  };
  const host = `127.0.0.1:${port}`;
  return {
    host,
    requests,
    waits,
    get: async (credentials?: Credentials, path = "/token") => {
      const realm = new URL(path, `http://${host}`);
      const request = {
        host: "registry.example",
        realm,
        service: "the registry",
        scopes: ["a:b:c", "d:e:f"],
      };
      const token = await fetchToken(
        { http, delay, attemptTimeoutMs },
        request,
        credentials,
        new AbortController().signal,
      );
      return token.value.reveal();
    },
    async [Symbol.asyncDispose]() {
      http[Symbol.dispose]();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

function sendToken(response: ServerResponse, token = "t"): void {
  response.end(JSON.stringify({ token }));
}

function fails(
  promise: Promise<unknown>,
  kind: abstract new (...parameters: never[]) => ServiceError,
  text: RegExp,
) {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof kind, String(error));
    assert.match(error.message, text);
    assert.doesNotMatch(error.message, /c4n4ry/);
    return true;
  });
}

const query = "service=the+registry&scope=a%3Ab%3Ac&scope=d%3Ae%3Af";

describe("fetchToken", () => {
  test("asks as nobody, with what the realm has for a query left in", async () => {
    await using server = await tokenServer((response) => sendToken(response));
    assert.equal(await server.get(undefined, "/token?account=1"), "t");
    assert.deepEqual(server.requests, [
      { line: `GET /token?account=1&${query}`, authorization: undefined, form: {} },
    ]);
  });

  test("shows user name and password", async () => {
    await using server = await tokenServer((response) => sendToken(response));
    assert.equal(await server.get(password), "t");
    const value = Buffer.from("us:er:c4n4ry &=").toString("base64");
    assert.equal(server.requests[0]?.authorization, `Basic ${value}`);
  });

  for (const status of [401, 404, 405]) {
    test(`tries OAuth2 with the password where GET is answered with ${status}`, async () => {
      await using server = await tokenServer((response, { line }) =>
        line.startsWith("GET") ? response.writeHead(status).end() : sendToken(response),
      );
      assert.equal(await server.get(password), "t");
      assert.deepEqual(server.requests[1], {
        line: "POST /token",
        authorization: undefined,
        form: {
          client_id: "oci-worker",
          grant_type: "password",
          service: "the registry",
          scope: "a:b:c d:e:f",
          username: "us:er",
          password: "c4n4ry &=",
        },
      });
    });
  }

  test("goes straight to OAuth2 with an identity token", async () => {
    await using server = await tokenServer((response) => sendToken(response));
    assert.equal(await server.get(identityToken), "t");
    const [{ line = "", form = {} } = {}] = server.requests;
    assert.deepEqual(
      [line, form["grant_type"], form["refresh_token"]],
      ["POST /token", "refresh_token", "refresh-c4n4ry"],
    );
  });

  test("tells a refusal as such, and does not repeat what the server says", async () => {
    for (const [get, post] of [
      [401, 401],
      [401, 404],
      [401, 500],
      [403, 200],
    ] as const) {
      await using server = await tokenServer((response, { line }) => {
        response.writeHead(line.startsWith("GET") ? get : post).end("c4n4ry");
      });
      await fails(server.get(password), PermissionDeniedError, new RegExp(`it answered HTTP ${get}$`));
      assert.deepEqual(server.waits, []);
    }
    await using server = await tokenServer((response) => response.writeHead(400).end("c4n4ry"));
    await fails(server.get(identityToken), PermissionDeniedError, /HTTP 400$/);
  });

  test("asks again when the server fails", async () => {
    let failures = 0;
    await using server = await tokenServer((response) => {
      failures += 1;
      if (failures === 1) {
        response.writeHead(503).end();
      } else if (failures === 2) {
        response.writeHead(429).end();
      } else {
        sendToken(response);
      }
    });
    assert.equal(await server.get(), "t");
    const [first = 0, second = 0, ...others] = server.waits;
    assert.ok(first >= 400 && first <= 600 && second >= 1200 && second <= 1800, server.waits.join());
    assert.deepEqual(others, []);
  });

  test("waits for as long as a server with too many callers asks, and for longer not at all", async () => {
    let retryAfter = "3";
    await using server = await tokenServer((response) => {
      if (server.requests.length % 2 === 1) {
        response.writeHead(429, { "retry-after": retryAfter }).end();
      } else {
        sendToken(response);
      }
    });
    assert.equal(await server.get(password), "t");
    assert.deepEqual(server.waits, [3000]);
    retryAfter = "3600";
    await assert.rejects(server.get(password), (error) => {
      assert.ok(error instanceof TokenServerFailure, String(error));
      assert.equal(error.retryAfterMs, 3_600_000);
      return true;
    });
    assert.equal(server.waits.length, 1);
  });

  test("asks again when the server does not answer, or so slowly that it never ends", async () => {
    const trickle = (response: ServerResponse) => {
      const timer = setInterval(() => response.write(" "), 5);
      response.on("close", () => clearInterval(timer));
    };
    for (const hang of [() => undefined, trickle]) {
      let asked = 0;
      // Long enough for an answer on a machine that is busy.
      await using server = await tokenServer((response) => {
        asked += 1;
        if (asked < 3) {
          hang(response);
        } else {
          sendToken(response);
        }
      }, 1500);
      assert.equal(await server.get(password), "t");
      await using mute = await tokenServer(hang, 50);
      await fails(mute.get(password), TokenServerFailure, /it did not answer within 50 ms$/);
    }
  });

  test("lets no token through that would be a header of its own", async () => {
    for (const token of ["c4n4ry\r\nX-Evil: 1", "c4n4ry\n", "c4n4ry a", "c4n4ry\0", "x".repeat(65_537)]) {
      await using server = await tokenServer((response) => sendToken(response, token));
      await fails(server.get(), UnavailableError, /its answer has no token in it$/);
    }
  });

  test("gives up in the end", async () => {
    await using server = await tokenServer((response) => response.writeHead(429).end("c4n4ry"));
    await fails(server.get(password), UnavailableError, /HTTP 429$/);
    assert.equal(server.requests.length, 3);
  });

  test("refuses an answer without end, without token, or packed", async () => {
    const answers: readonly [RegExp, (response: ServerResponse) => void][] = [
      [
        /longer than 1048576 bytes$/,
        (response) => {
          const piece = Buffer.alloc(64 * 1024, "x");
          const more = () => {
            while (!response.destroyed && response.write(piece)) {
              // As much as the connection takes.
            }
          };
          response.on("drain", more);
          more();
        },
      ],
      [/no token in it$/, (response) => response.end("{}")],
      [
        /no token in it$/,
        (response) => response.writeHead(200, { "content-encoding": "gzip" }).end("\x1f\x8b\b\0"),
      ],
      [/HTTP 204$/, (response) => response.writeHead(204).end()],
    ];
    for (const [message, answer] of answers) {
      await using server = await tokenServer((response) => answer(response));
      await fails(server.get(), ServiceError, message);
    }
  });

  test("takes no password along with a redirect to another host", async () => {
    await using thief = await tokenServer((response) => sendToken(response, "thief's"));
    await using server = await tokenServer((response, { line }) =>
      line.startsWith("GET")
        ? response.writeHead(302, { location: `http://${thief.host}/` }).end()
        : response.writeHead(307, { location: `http://${thief.host}/` }).end(),
    );
    assert.equal(await server.get(password), "thief's");
    assert.equal(thief.requests[0]?.authorization, undefined);
    await fails(server.get(identityToken), UnavailableError, /it redirects to/);
    assert.equal(thief.requests.length, 1);
  });

  test("follows no circle of redirects", async () => {
    await using server = await tokenServer((response) =>
      response.writeHead(302, { location: "/token" }).end(),
    );
    await fails(server.get(), UnavailableError, /redirects more than 10 times/);
  });
});
