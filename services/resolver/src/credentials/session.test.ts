import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { describe, test } from "node:test";
import { Secret } from "@oci-worker/credentials/secret";
import {
  NotFoundError,
  PermissionDeniedError,
  ServiceError,
  UnavailableError,
  UnimplementedError,
  UnknownError,
} from "@oci-worker/errdefs";
import { HttpClient } from "@oci-worker/registry/http";
import type { Identity, Obstacle, Scheme, TokenRequest } from "./identity.ts";
import { SessionKeychain } from "./session.ts";
import type { AuthMethod, LiveSession, SessionAuth } from "./session-auth.ts";
import type { SessionTimes } from "./session-clients.ts";

const allMethods: readonly AuthMethod[] = [
  "credentials",
  "fetchToken",
  "getTokenAuthority",
  "verifyTokenAuthority",
];
const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const rawPublicKey = rawKey(publicKey);
const someoneElse = generateKeyPairSync("ed25519");
const signal = new AbortController().signal;
const request: TokenRequest = {
  host: "registry.example",
  realm: new URL("https://auth.example/token"),
  service: "",
  scopes: [],
};

function rawKey(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: "jwk" }).x ?? "", "base64url");
}

function session(id: string, methods: readonly AuthMethod[] = allMethods, attachedAt = "1"): LiveSession {
  return { id, methods: new Set(methods), attachedAt };
}

/** Clients that all are the same user, but for what `changes` says; and what they were asked. */
function sessionsWith(
  live: readonly LiveSession[],
  changes: Partial<SessionAuth> = {},
  times: Partial<SessionTimes> = { patienceMs: 60_000 },
) {
  const calls: string[] = [];
  const counted = <A extends readonly unknown[], R>(name: string, method: (...parameters: A) => R) => {
    return (...parameters: A): R => {
      calls.push(`${parameters[0]} ${name}`);
      return method(...parameters);
    };
  };
  const base: SessionAuth = {
    liveSessions: () => Promise.resolve([...live]),
    credentials: () => Promise.resolve({ username: "user", secret: new Secret("pass") }),
    tokenAuthority: () => Promise.resolve(rawPublicKey),
    proveTokenAuthority: (_, { payload }) =>
      Promise.resolve(Buffer.concat([sign(null, payload, privateKey), payload])),
    fetchToken: () => Promise.resolve({ value: new Secret("token"), lifetime: { seconds: 60 } }),
    ...changes,
  };
  const sessions: SessionAuth = {
    liveSessions: base.liveSessions,
    credentials: counted("credentials", base.credentials),
    tokenAuthority: counted("tokenAuthority", base.tokenAuthority),
    proveTokenAuthority: counted("proveTokenAuthority", base.proveTokenAuthority),
    fetchToken: counted("fetchToken", base.fetchToken),
  };
  return {
    calls,
    keychain: new SessionKeychain(
      sessions,
      { http: new HttpClient(), delay: () => Promise.resolve() },
      times,
    ),
  };
}

async function identities(keychain: SessionKeychain, scheme: Scheme = "bearer", sessionIDs = ["one"]) {
  const query = { host: "registry.example", scheme, reference: "r/app:1", sessionIDs, anySession: false };
  const found: (Identity | Obstacle)[] = [];
  for await (const each of keychain.identities(query, signal)) {
    found.push(each);
  }
  return found;
}

/** A client, or a worker, that says nothing until it is not listened to any more. */
function never(limit: AbortSignal): Promise<never> {
  return new Promise<never>((_, reject) => {
    limit.addEventListener("abort", () => reject(limit.reason));
  });
}

/** The keys of identities, and the messages of obstacles. */
function told(found: readonly (Identity | Obstacle)[]): string[] {
  return found.map((each) => ("obstacle" in each ? each.obstacle.message : each.key.replace(/:.*/, "")));
}

describe("SessionKeychain", () => {
  test("takes a client's proved key for its identity, and has it proved once a session", async () => {
    const { keychain, calls } = sessionsWith([session("one"), session("two")]);
    assert.deepEqual(told(await identities(keychain)), ["authority"]);
    assert.deepEqual(calls, [
      "one tokenAuthority",
      "one proveTokenAuthority",
      "two tokenAuthority",
      "two proveTokenAuthority",
    ]);
    await identities(keychain);
    assert.equal(calls.length, 4);
  });

  test("believes nothing that another client has proved under the same session id", async () => {
    const live = [session("one", allMethods, "1")];
    const { keychain, calls } = sessionsWith([], { liveSessions: () => Promise.resolve([...live]) });
    await identities(keychain);
    live[0] = session("one", allMethods, "2");
    await identities(keychain);
    assert.equal(calls.filter((call) => call === "one proveTokenAuthority").length, 2);
  });

  test("does not ask a later client while an earlier one will do", async () => {
    const { keychain, calls } = sessionsWith([session("one"), session("two")]);
    const query = {
      host: "h",
      scheme: "basic",
      reference: "r",
      sessionIDs: ["one"],
      anySession: false,
    } as const;
    for await (const _ of keychain.identities(query, signal)) {
      break;
    }
    assert.deepEqual(calls, ["one credentials"]);
  });

  test("asks for a password where the registry wants one, or the client has no key", async () => {
    for (const [scheme, methods] of [
      ["basic", allMethods],
      ["bearer", ["credentials"]],
      ["bearer", ["credentials", "fetchToken", "getTokenAuthority"]],
    ] as const) {
      const { keychain, calls } = sessionsWith([session("one", methods)]);
      assert.deepEqual(told(await identities(keychain, scheme)), ["credentials"]);
      assert.deepEqual(calls, ["one credentials"]);
    }
  });

  test("asks for a password where the client has its key switched off", async () => {
    for (const error of [new UnavailableError("off"), new UnimplementedError("none")]) {
      const { keychain } = sessionsWith([session("one")], { tokenAuthority: () => Promise.reject(error) });
      assert.deepEqual(told(await identities(keychain)), ["credentials"]);
    }
  });

  test("passes over clients that have nothing, and goes past those that fail", async () => {
    const { keychain } = sessionsWith(
      [session("ended"), session("empty"), session("broken"), session("mute", []), session("good")],
      {
        credentials: (id) => {
          switch (id) {
            case "ended":
              return Promise.reject(new NotFoundError("no active session for ended"));
            case "empty":
              return Promise.resolve(undefined);
            case "broken":
              return Promise.reject(new UnknownError("c4n4ry"));
            default:
              return Promise.resolve({ username: "user", secret: new Secret("pass") });
          }
        },
      },
    );
    assert.deepEqual(told(await identities(keychain, "basic")), [
      "the session has ended",
      "the client of the session could not be asked",
      "credentials",
    ]);
  });

  test("says that there is no session, where there were some", async () => {
    const { keychain } = sessionsWith([]);
    assert.deepEqual(told(await identities(keychain)), ["no active sessions"]);
    assert.deepEqual(await identities(keychain, "bearer", []), []);
  });

  test("tells a token server that refuses the client from one that cannot be asked", async () => {
    const cases = [
      [
        new UnknownError("failed to fetch oauth token: unexpected status: 401 Unauthorized"),
        PermissionDeniedError,
      ],
      [new PermissionDeniedError("no"), PermissionDeniedError],
      [new UnknownError("failed to fetch oauth token: dial tcp 10.0.0.401: c4n4ry"), UnavailableError],
      [new NotFoundError("no active session"), UnavailableError],
    ] as const;
    for (const [error, kind] of cases) {
      const { keychain } = sessionsWith([session("one")], { fetchToken: () => Promise.reject(error) });
      const [identity] = await identities(keychain);
      assert.ok(identity !== undefined && "key" in identity);
      await assert.rejects(identity.fetchToken(request, signal), (thrown) => {
        assert.ok(thrown instanceof ServiceError && thrown instanceof kind, String(thrown));
        assert.doesNotMatch(thrown.message, /c4n4ry/);
        return true;
      });
    }
  });

  test("has the client try again when the token server fails it", async () => {
    let failures = 2;
    const { keychain, calls } = sessionsWith([session("one")], {
      fetchToken: () => {
        failures -= 1;
        return failures >= 0
          ? Promise.reject(new UnknownError("failed to fetch oauth token: unexpected status: 503"))
          : Promise.resolve({ value: new Secret("token"), lifetime: { seconds: 60 } });
      },
    });
    const [identity] = await identities(keychain);
    assert.ok(identity !== undefined && "key" in identity);
    assert.equal((await identity.fetchToken(request, signal)).value.reveal(), "token");
    assert.equal(calls.filter((call) => call === "one fetchToken").length, 3);
  });

  test("refuses a token of a client that is none", async () => {
    const { keychain } = sessionsWith([session("one")], {
      fetchToken: () => Promise.resolve({ value: new Secret("a\r\nb"), lifetime: { seconds: 60 } }),
    });
    const [identity] = await identities(keychain);
    assert.ok(identity !== undefined && "key" in identity);
    await assert.rejects(identity.fetchToken(request, signal), UnavailableError);
  });

  test("asks the next client when one does not answer, and that one last from then on", async () => {
    const silence = Promise.withResolvers<undefined>();
    const { keychain, calls } = sessionsWith(
      [session("mute"), session("good")],
      {
        credentials: (id) =>
          id === "mute" ? silence.promise : Promise.resolve({ username: "user", secret: new Secret("pass") }),
      },
      { patienceMs: 1 },
    );
    const query = {
      host: "h",
      scheme: "basic",
      reference: "r",
      sessionIDs: ["x"],
      anySession: false,
    } as const;
    for (const want of [
      ["mute credentials", "good credentials"],
      ["mute credentials", "good credentials", "good credentials"],
    ]) {
      for await (const found of keychain.identities(query, signal)) {
        assert.ok("key" in found);
        break;
      }
      assert.deepEqual(calls, want);
    }
    silence.resolve(undefined);
  });

  test("hears a client that answers late, after the others", async () => {
    const late = Promise.withResolvers<{ username: string; secret: Secret }>();
    const { keychain } = sessionsWith(
      [session("late"), session("empty")],
      {
        credentials: (id) => {
          if (id === "late") {
            return late.promise;
          }
          late.resolve({ username: "user", secret: new Secret("pass") });
          return Promise.resolve(undefined);
        },
      },
      { patienceMs: 1 },
    );
    assert.deepEqual(told(await identities(keychain, "basic")), ["credentials"]);
  });

  test("gives up on a client that never answers, and does not ask it again at once", async () => {
    for (const [scheme, asked] of [
      ["basic", "one credentials"],
      ["bearer", "one tokenAuthority"],
    ] as const) {
      const { keychain, calls } = sessionsWith(
        [session("one")],
        {
          credentials: (_id, _host, limit) => never(limit),
          tokenAuthority: (_id, _host, _salt, limit) => never(limit),
        },
        { timeoutMs: 5, patienceMs: 1 },
      );
      assert.deepEqual(told(await identities(keychain, scheme)), [
        "the client of the session has not answered within 5 ms",
      ]);
      assert.deepEqual(told(await identities(keychain, scheme)), [
        "the client of the session does not answer",
      ]);
      assert.deepEqual(calls, [asked]);
    }
  });

  test("has another client of the same user fetch the token when one fails or does not answer", async () => {
    const failures = [
      () => Promise.reject(new NotFoundError("no active session")),
      () => Promise.resolve({ value: new Secret("gar\nbage"), lifetime: { seconds: 60 } }),
      () => new Promise<never>(() => undefined),
    ];
    for (const failure of failures) {
      const { keychain, calls } = sessionsWith(
        [session("one"), session("impostor"), session("another user"), session("two")],
        {
          fetchToken: (id) =>
            id === "one" ? failure() : Promise.resolve({ value: new Secret(id), lifetime: { seconds: 60 } }),
          tokenAuthority: (id) =>
            Promise.resolve(id === "another user" ? rawKey(someoneElse.publicKey) : rawPublicKey),
          proveTokenAuthority: (id, { payload }) => {
            const key = id === "another user" ? someoneElse.privateKey : privateKey;
            const signature = id === "impostor" ? Buffer.alloc(64) : sign(null, payload, key);
            return Promise.resolve(Buffer.concat([signature, payload]));
          },
        },
        { patienceMs: 1 },
      );
      const [identity] = await identities(keychain);
      assert.ok(identity !== undefined && "key" in identity);
      const token = await identity.fetchToken(request, signal);
      assert.equal(token.value.reveal(), "two");
      assert.deepEqual(
        calls.filter((call) => call.endsWith(" fetchToken")),
        ["one fetchToken", "two fetchToken"],
      );
    }
  });

  test("gives up on a worker that does not say which sessions there are", async () => {
    const { keychain } = sessionsWith(
      [],
      { liveSessions: (_query, limit) => never(limit) },
      { listTimeoutMs: 1 },
    );
    await assert.rejects(identities(keychain), (error) => {
      assert.ok(error instanceof UnavailableError);
      assert.match(error.message, /the worker has not said within 1 ms/);
      return true;
    });
  });

  test("does not ask more clients than would be of use", async () => {
    const many = Array.from({ length: 1000 }, (_, index) => session(String(index), ["credentials"]));
    const { keychain, calls } = sessionsWith(many, { credentials: () => Promise.resolve(undefined) });
    await identities(keychain, "basic");
    assert.equal(calls.length, 32);
  });

  test("gets past clients that answer nonsense", async () => {
    const garbage: Partial<SessionAuth>[] = [
      { tokenAuthority: () => Promise.resolve(new Uint8Array(0)) },
      { tokenAuthority: () => Promise.resolve(new Uint8Array(1_000_000)) },
      { proveTokenAuthority: () => Promise.resolve(new Uint8Array(96)) },
      { proveTokenAuthority: () => Promise.resolve(new Uint8Array(0)) },
    ];
    for (const changes of garbage) {
      const { keychain } = sessionsWith([session("one"), session("two", ["credentials"])], changes);
      const [first, second] = told(await identities(keychain));
      assert.match(first ?? "", /has not proved that it holds the key/);
      assert.equal(second, "credentials");
    }
  });
});
