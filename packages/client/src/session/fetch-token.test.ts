import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { Secret } from "@oci-worker/credentials/secret";
import { PermissionDeniedError, UnauthenticatedError, UnavailableError } from "@oci-worker/errdefs";
import { fetchToken } from "./fetch-token.ts";

interface Seen {
  readonly method: string;
  readonly query: Record<string, string[]>;
  readonly form: Record<string, string>;
  readonly authorization: string | undefined;
}

type Answer = (seen: Seen, response: ServerResponse) => void;

/** A token server that answers as `answer` says, and what it was asked. */
async function withServer(answer: Answer, use: (realm: string, seen: readonly Seen[]) => Promise<void>) {
  const seen: Seen[] = [];
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? "", "http://localhost");
    const query = Object.fromEntries(
      [...url.searchParams.keys()].map((key) => [key, url.searchParams.getAll(key)]),
    );
    const form = Object.fromEntries(new URLSearchParams(await text(request)));
    const { authorization } = request.headers;
    const entry = { method: request.method ?? "", query, form, authorization };
    seen.push(entry);
    answer(entry, response);
  };
  const server = createServer((request, response) => void handle(request, response)).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/token`, seen);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

const json = (response: ServerResponse, value: unknown, status = 200) =>
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));

const password = { kind: "password", username: "me", password: new Secret("p&w") } as const;
const identity = { kind: "identity-token", token: new Secret("refresh") } as const;
const scopes = ["repository:a/b:pull", "repository:c:pull,push"];
const requestOf = (realm: string) => ({ realm, service: "s", scopes, clientID: "c" });

describe("a token is fetched", () => {
  test("anonymously by GET, a parameter for each scope", async () => {
    await withServer(
      (_seen, response) =>
        json(response, { token: "t", expires_in: 300, issued_at: "2024-01-01T00:00:01.9Z" }),
      async (realm, seen) => {
        const { token, lifetimeSeconds, issuedAtSeconds } = await fetchToken(
          requestOf(realm),
          undefined,
          undefined,
        );
        assert.deepEqual([token.reveal(), lifetimeSeconds, issuedAtSeconds], ["t", 300, 1_704_067_201]);
        assert.deepEqual(seen, [
          { method: "GET", query: { service: ["s"], scope: scopes }, form: {}, authorization: undefined },
        ]);
      },
    );
  });

  test("with a password by POST", async () => {
    await withServer(
      (_seen, response) => json(response, { access_token: "t" }),
      async (realm, seen) => {
        const { token, lifetimeSeconds } = await fetchToken(requestOf(realm), password, undefined);
        assert.deepEqual([token.reveal(), lifetimeSeconds], ["t", 60]);
        assert.deepEqual(seen[0]?.form, {
          service: "s",
          client_id: "c",
          scope: scopes.join(" "),
          grant_type: "password",
          username: "me",
          password: "p&w",
        });
      },
    );
  });

  test("with an identity token by POST", async () => {
    await withServer(
      (_seen, response) => json(response, { access_token: "t" }),
      async (realm, seen) => {
        await fetchToken(requestOf(realm), identity, undefined);
        assert.equal(seen[0]?.form["grant_type"], "refresh_token");
        assert.equal(seen[0]?.form["refresh_token"], "refresh");
      },
    );
  });

  for (const status of [401, 404, 405]) {
    test(`with a password by GET where POST is answered with ${status}`, async () => {
      await withServer(
        ({ method }, response) => json(response, { token: "t" }, method === "POST" ? status : 200),
        async (realm, seen) => {
          const { token } = await fetchToken(requestOf(realm), password, undefined);
          assert.equal(token.reveal(), "t");
          const basic = `Basic ${Buffer.from("me:p&w").toString("base64")}`;
          assert.deepEqual(
            seen.map(({ method, authorization }) => [method, authorization]),
            [
              ["POST", undefined],
              ["GET", basic],
            ],
          );
        },
      );
    });
  }
});

describe("a token server", () => {
  const refusals: [status: number, Failure: new (message: string) => Error][] = [
    [401, UnauthenticatedError],
    [403, PermissionDeniedError],
    [500, UnavailableError],
  ];
  for (const [status, Failure] of refusals) {
    test(`that answers ${status} gives a ${Failure.name} without a secret`, async () => {
      await withServer(
        (_seen, response) => json(response, { details: "p&w" }, status),
        async (realm) => {
          await assert.rejects(fetchToken(requestOf(realm), password, undefined), (error) => {
            assert(error instanceof Failure);
            assert.match(error.message, new RegExp(`failed to fetch oauth token: .*: ${status} `));
            assert.doesNotMatch(error.message, /p&w/);
            return true;
          });
        },
      );
    });
  }

  test("that redirects does not get the password sent elsewhere", async () => {
    await withServer(
      (_seen, elsewhere) => json(elsewhere, { token: "t" }),
      async (other, seenElsewhere) => {
        await withServer(
          (_seen, response) => response.writeHead(307, { location: other }).end(),
          async (realm) => {
            await assert.rejects(fetchToken(requestOf(realm), password, undefined), UnavailableError);
          },
        );
        assert.deepEqual(seenElsewhere, []);
      },
    );
  });

  const nonsense: [what: string, answer: Answer, error: RegExp][] = [
    ["no token", (_seen, response) => json(response, {}), /answered without a token/],
    ["no JSON", (_seen, response) => response.end("<html>"), /it is no JSON/],
    ["too much", (_seen, response) => response.end("x".repeat(2_000_000)), /answered too much/],
    ["nothing", (_seen, response) => response.destroy(), /cannot reach 127\.0\.0\.1/],
  ];
  for (const [what, answer, error] of nonsense) {
    test(`that answers ${what} is told`, async () => {
      await withServer(answer, async (realm) => {
        await assert.rejects(fetchToken(requestOf(realm), undefined, undefined), error);
      });
    });
  }

  test("that does not answer is waited for no longer than the caller wants", async () => {
    const abort = new AbortController();
    await withServer(
      () => abort.abort(),
      async (realm) => {
        await assert.rejects(fetchToken(requestOf(realm), undefined, abort.signal), UnavailableError);
      },
    );
  });

  test("that is no URL is refused", async () => {
    for (const realm of ["", "file:///etc/passwd", "x"]) {
      await assert.rejects(fetchToken(requestOf(realm), undefined, undefined), /want an http or https URL/);
    }
  });
});
