import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Secret } from "@oci-worker/credentials/secret";
import { PermissionDeniedError, UnavailableError } from "@oci-worker/errdefs";
import type { Identity, Token, TokenRequest } from "../credentials/identity.ts";
import { TokenServerFailure } from "./fetch-token.ts";
import { bearerValue, sha256Of, TokenCache } from "./token-cache.ts";

const request: TokenRequest = {
  host: "registry.example",
  realm: new URL("https://auth.example/token"),
  service: "registry",
  scopes: ["repository:app:pull"],
};

/** A cache with a clock of the test, and an identity that counts the tokens it has fetched. */
function setUp(patienceMs?: number) {
  let now = 1_000_000;
  let fetched = 0;
  const tokens = new TokenCache(10_000, () => now, patienceMs);
  const identityOf = (key: string, lifetimeMs = 100_000): Identity => ({
    key,
    fetchToken: () => {
      fetched += 1;
      return Promise.resolve({
        value: new Secret(`${key}-${fetched}`),
        renewAtMs: now + lifetimeMs,
        expiresAtMs: now + lifetimeMs / 0.9,
      });
    },
  });
  const get = async (identity: Identity, refused?: Token, rest: object = {}) => {
    const refusedSha256 = refused === undefined ? "" : sha256Of(bearerValue(refused).reveal());
    const query = { identity, request, refusedSha256, isInsufficient: false, ...rest };
    return await tokens.get(query, new AbortController().signal);
  };
  return {
    get,
    identityOf,
    fetched: () => fetched,
    pass: (ms: number) => {
      now += ms;
    },
  };
}

describe("TokenCache", () => {
  test("keeps a token until it is to be renewed", async () => {
    const { get, identityOf, fetched, pass } = setUp();
    const first = await get(identityOf("a"));
    assert.equal(await get(identityOf("a")), first);
    pass(99_999);
    assert.equal(await get(identityOf("a")), first);
    pass(1);
    assert.notEqual(await get(identityOf("a")), first);
    assert.equal(fetched(), 2);
  });

  test("goes on with a token that is still good while no other can be had", async () => {
    const { get, identityOf, fetched, pass } = setUp();
    const first = await get(identityOf("a", 90_000));
    const failing: Identity = { key: "a", fetchToken: () => Promise.reject(new UnavailableError("down")) };
    pass(90_000);
    const again = await get(failing);
    assert.equal(again?.value, first?.value);
    // Its user is to ask again soon.
    assert.equal((again?.renewAtMs ?? 0) - (first?.renewAtMs ?? 0), 1000);
    pass(9_500);
    assert.equal((await get(failing))?.renewAtMs, first?.expiresAtMs);
    assert.notEqual((await get(identityOf("a")))?.value, first?.value);
    assert.equal(fetched(), 2);
  });

  test("goes on with no token that has expired, and with none of an identity that is refused now", async () => {
    const { get, identityOf, pass } = setUp();
    const failing = (error: Error): Identity => ({ key: "a", fetchToken: () => Promise.reject(error) });
    await get(identityOf("a", 90_000));
    pass(90_000);
    await assert.rejects(get(failing(new PermissionDeniedError("no"))), PermissionDeniedError);
    pass(10_000);
    await assert.rejects(get(failing(new UnavailableError("down"))), UnavailableError);
  });

  test("goes on with a token that is still good while another one is slow to come", async () => {
    const { get, identityOf, pass } = setUp(1);
    const first = await get(identityOf("a", 90_000));
    const coming = Promise.withResolvers<Token>();
    const slow: Identity = { key: "a", fetchToken: () => coming.promise };
    pass(90_000);
    assert.equal((await get(slow))?.value, first?.value);
    const second = { value: new Secret("second"), renewAtMs: 9_999_999, expiresAtMs: 9_999_999 };
    coming.resolve(second);
    await coming.promise;
    assert.equal(await get(slow), second);
  });

  test("leaves a server alone that asks for it, for one identity and as long as it asks", async () => {
    const { get, identityOf, fetched, pass } = setUp();
    const failure = new TokenServerFailure("busy", { retryAfterMs: 20_000 });
    const limited: Identity = { key: "a", fetchToken: () => Promise.reject(failure) };
    const other = { request: { ...request, scopes: [] } };
    await assert.rejects(get(limited), failure);
    pass(19_999);
    await assert.rejects(get(identityOf("a"), undefined, other), failure);
    await get(identityOf("b"));
    assert.equal(fetched(), 1);
    pass(1);
    await get(identityOf("a"), undefined, other);
    assert.equal(fetched(), 2);
  });

  test("fetches anew when a token of a few seconds is refused late in its life", async () => {
    const { get, identityOf, pass } = setUp();
    const first = await get(identityOf("a", 4500));
    pass(1499);
    assert.equal(await get(identityOf("a", 4500), first), undefined);
    pass(1);
    assert.ok((await get(identityOf("a", 4500), first)) !== undefined);
  });

  test("keeps the tokens of identities, hosts, servers, services and scopes apart", async () => {
    const { get, identityOf, fetched } = setUp();
    const values = new Set<string | undefined>();
    const others = [
      {},
      { host: "mirror.example" },
      { realm: new URL("https://auth.example/other") },
      { service: "other" },
      { scopes: ["repository:other:pull"] },
      { scopes: [] },
    ];
    for (const other of others) {
      const token = await get(identityOf("a"), undefined, { request: { ...request, ...other } });
      values.add(token?.value.reveal());
    }
    values.add((await get(identityOf("b")))?.value.reveal());
    assert.deepEqual([values.size, fetched()], [7, 7]);
  });

  test("fetches once for all who ask at the same time, and none of them can spoil it for the others", async () => {
    const release = Promise.withResolvers<Token>();
    let fetches = 0;
    const identity: Identity = {
      key: "a",
      fetchToken: () => {
        fetches += 1;
        return release.promise;
      },
    };
    const tokens = new TokenCache(10_000);
    const query = { identity, request, refusedSha256: "", isInsufficient: false };
    const impatient = new AbortController();
    const first = tokens.get(query, impatient.signal);
    const others = Array.from({ length: 100 }, () => tokens.get(query, new AbortController().signal));
    impatient.abort(new Error("enough"));
    await assert.rejects(first, /enough/);
    const token = { value: new Secret("t"), renewAtMs: Date.now() + 1000, expiresAtMs: Date.now() + 2000 };
    release.resolve(token);
    assert.ok((await Promise.all(others)).every((each) => each === token));
    assert.equal(fetches, 1);
  });

  test("keeps no failure", async () => {
    const { get, identityOf } = setUp();
    const failing: Identity = {
      key: "a",
      fetchToken: () => Promise.reject(new PermissionDeniedError("no")),
    };
    await assert.rejects(get(failing), PermissionDeniedError);
    assert.ok((await get(identityOf("a"))) !== undefined);
  });

  test("gives up on a fetch that does not end", async () => {
    const tokens = new TokenCache(10);
    const identity: Identity = {
      key: "a",
      fetchToken: (_, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
        }),
    };
    const query = { identity, request, refusedSha256: "", isInsufficient: false };
    await assert.rejects(tokens.get(query, new AbortController().signal), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.match(error.message, /from auth\.example: it took longer than 10 ms/);
      return true;
    });
  });

  test("fetches anew when a token that served for a while is refused", async () => {
    const { get, identityOf, pass } = setUp();
    const first = await get(identityOf("a"));
    pass(5000);
    const second = await get(identityOf("a"), first);
    assert.ok(second !== undefined && second !== first);
    // One who was refused with the old one, too, takes what the other has renewed.
    assert.equal(await get(identityOf("a"), first), second);
  });

  test("does not fetch anew when a token is refused as soon as it is there, or allows too little", async () => {
    const { get, identityOf, fetched, pass } = setUp();
    const first = await get(identityOf("a"));
    pass(4999);
    assert.equal(await get(identityOf("a"), first), undefined);
    pass(1);
    assert.equal(await get(identityOf("a"), first, { isInsufficient: true }), undefined);
    assert.equal(fetched(), 1);
  });

  test("does not give a token again that was refused, when the server gives the same one twice", async () => {
    const { get, pass } = setUp();
    const stubborn: Identity = {
      key: "a",
      fetchToken: () =>
        Promise.resolve({ value: new Secret("same"), renewAtMs: 9_999_999_999, expiresAtMs: 9_999_999_999 }),
    };
    const first = await get(stubborn);
    pass(60_000);
    assert.equal(await get(stubborn, first), undefined);
  });

  test("is not larger for many than it may be", async () => {
    const { get, identityOf, fetched } = setUp();
    for (let index = 0; index < 10_001; index += 1) {
      await get(identityOf(String(index)));
    }
    await get(identityOf("10000"));
    assert.equal(fetched(), 10_001);
    await get(identityOf("0"));
    assert.equal(fetched(), 10_002);
  });
});
