import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Secret } from "@oci-worker/credentials/secret";
import {
  PermissionDeniedError,
  type ServiceError,
  UnauthenticatedError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { parseReference } from "@oci-worker/oci/reference";
import { pino } from "pino";
import { Authorizer } from "./authorize.ts";
import type { Identity, Keychain, Obstacle, TokenRequest } from "./credentials/identity.ts";
import { formatHandle, type Grantee } from "./handle.ts";
import { RegistryHosts } from "./hosts/hosts.ts";
import type { AuthorizationRequest } from "./inquiry.ts";
import { Ledger } from "./ledger.ts";
import { sha256Of, TokenCache } from "./token/token-cache.ts";

const bearer = 'Bearer realm="https://auth.example/token",service="s",scope="repository:app:pull"';

/** Someone whose tokens count up, or who is refused; and what was asked of the token server. */
function someone(key: string, refusal?: ServiceError) {
  const requests: TokenRequest[] = [];
  const identity: Identity = {
    key,
    basic: new Secret(`Basic ${key}`),
    fetchToken: (request) => {
      requests.push(request);
      const until = Date.now() + 100_000;
      return refusal === undefined
        ? Promise.resolve({
            value: new Secret(`${key}${requests.length}`),
            renewAtMs: until,
            expiresAtMs: until,
          })
        : Promise.reject(refusal);
    },
  };
  return { identity, requests };
}

function keychain(name: string, ...found: readonly (Identity | Obstacle)[]): Keychain {
  return {
    name,
    async *identities() {
      yield* found;
    },
  };
}

function authorizerOf(...keychains: readonly Keychain[]) {
  const ledger = new Ledger();
  const authorizer = new Authorizer({
    hosts: new RegistryHosts({ table: new Map() }),
    keychains,
    tokens: new TokenCache(10_000),
    ledger,
    log: pino({ level: "silent" }),
  });
  const ask = async (
    request: Partial<AuthorizationRequest> & { readonly grantee?: Partial<Grantee> } = {},
  ) => {
    const { grantee, ...rest } = request;
    const handle = formatHandle({
      reference: parseReference("registry.example/app:1"),
      access: "pull",
      sessionIDs: [],
      subject: "image",
      ...grantee,
    });
    const defaults = {
      handle,
      host: "registry.example",
      challenges: [bearer],
      refusedSha256: "",
      extraScopes: [],
    };
    const grant = await authorizer.authorize({ ...defaults, ...rest }, new AbortController().signal);
    return grant && { value: grant.value.reveal(), keychain: grant.keychain };
  };
  return { ask, ledger };
}

describe("Authorizer", () => {
  test("gets through all identities, and to an end, by what the registry refuses", async () => {
    for (const [challenge, want] of [
      ["Basic", ["Basic a", "Basic b", "Basic c"]],
      [bearer, ["Bearer a1", "Bearer b1", "Bearer c1"]],
    ] as const) {
      const { ask } = authorizerOf(
        keychain("one", someone("a").identity, { obstacle: new PermissionDeniedError("impostor") }),
        keychain("two", someone("b").identity, someone("c").identity),
      );
      const shown: string[] = [];
      let refusedSha256 = "";
      const tries = async () => {
        for (;;) {
          const { value = "" } = (await ask({ challenges: [challenge], refusedSha256 })) ?? {};
          shown.push(value);
          refusedSha256 = sha256Of(value);
        }
      };
      await assert.rejects(tries(), (error) => {
        assert.ok(error instanceof UnauthenticatedError);
        assert.match(error.message, /one: the registry refused these credentials; one: impostor; two: /);
        return true;
      });
      assert.deepEqual(shown, want);
    }
  });

  test("shows a token server that refuses no password again for a while", async () => {
    const wrong = someone("wrong", new PermissionDeniedError("it answered HTTP 401"));
    const { ask } = authorizerOf(keychain("one", wrong.identity));
    for (let tries = 0; tries < 10; tries += 1) {
      await assert.rejects(ask(), /one: it answered HTTP 401$/);
    }
    assert.equal(wrong.requests.length, 1);
  });

  test("asks a token server that fails again, and says that it is worth another try", async () => {
    const down = someone("a", new UnavailableError("it answered HTTP 503"));
    const { ask } = authorizerOf(keychain("one", down.identity), keychain("two"));
    for (let tries = 0; tries < 2; tries += 1) {
      await assert.rejects(ask(), UnavailableError);
    }
    assert.equal(down.requests.length, 2);
  });

  test("goes past a keychain that fails, and not past a bug", async () => {
    const failing = (error: Error): Keychain => ({
      name: "failing",
      // biome-ignore lint/correctness/useYield: it fails before it has anything.
      async *identities() {
        throw error;
      },
    });
    const last = keychain("last", someone("a").identity);
    const { ask, ledger } = authorizerOf(failing(new UnavailableError("no active sessions")), last);
    assert.equal((await ask())?.keychain, "last");
    assert.deepEqual(ledger.explain()[0]?.hosts[0]?.tried, [
      { keychain: "failing", reason: "no active sessions" },
    ]);
    await assert.rejects(authorizerOf(failing(new TypeError("a bug")), last).ask(), TypeError);
  });

  test("has something to show before it is asked for the second time, for that repository alone", async () => {
    const { ask } = authorizerOf(keychain("one", someone("a").identity));
    const unasked = (name: string, access: Grantee["access"] = "pull") =>
      ask({ challenges: [], grantee: { reference: parseReference(`registry.example/${name}`), access } });
    assert.equal(await unasked("app"), undefined);
    await ask();
    assert.equal((await unasked("app"))?.value, "Bearer a1");
    assert.equal(await unasked("other"), undefined);
    assert.equal(await unasked("app", "push"), undefined);
  });

  test("asks for everything at once, in one order", async () => {
    const { identity, requests } = someone("a");
    const { ask } = authorizerOf(keychain("one", identity));
    await ask({ grantee: { access: "push" }, extraScopes: ["repository:base:pull"] });
    await ask({ grantee: { access: "push" }, extraScopes: ["repository:base:pull", "repository:app:push"] });
    assert.deepEqual(
      requests.map(({ scopes, realm, service, host }) => [scopes, realm.href, service, host]),
      [
        [
          ["repository:app:pull,push", "repository:base:pull"],
          "https://auth.example/token",
          "s",
          "registry.example",
        ],
      ],
    );
  });

  test("gives the next identity where a token is good and allows too little", async () => {
    const { ask } = authorizerOf(keychain("one", someone("a").identity, someone("b").identity));
    const first = await ask();
    const challenges = [`${bearer},error="insufficient_scope"`];
    const second = await ask({ challenges, refusedSha256: sha256Of(first?.value ?? "") });
    assert.deepEqual([first?.value, second?.value], ["Bearer a1", "Bearer b1"]);
  });
});
