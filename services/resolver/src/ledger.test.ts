import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RegistryHost } from "@oci-worker/registry/host";
import { Ledger } from "./ledger.ts";

const wish = { reference: "registry.example/app:1", access: "pull" } as const;
const origin: RegistryHost = {
  scheme: "https",
  host: "registry.example",
  path: "/v2",
  capabilities: ["pull"],
  headers: { "X-Key": ["c4n4ry"] },
};
const mirror: RegistryHost = { ...origin, host: "mirror.example", upstreamNamespace: "registry.example" };

function outcomesOf(ledger: Ledger) {
  return ledger.explain(wish.reference).map(({ hosts }) => hosts.map(({ outcome }) => outcome));
}

describe("Ledger", () => {
  test("knows how far each host got, in the order in which they are tried", () => {
    const ledger = new Ledger(() => 7);
    ledger.resolved(wish, [mirror, origin]);
    assert.deepEqual(outcomesOf(ledger), [["unused", "unused"]]);
    ledger.asked(wish, mirror);
    ledger.reported(wish, mirror, "HTTP 404");
    ledger.asked(wish, origin);
    const tried = [{ keychain: "session", reason: "no active sessions" }];
    ledger.authorized(wish, origin, { keychain: "docker-config", challenge: "bearer", tried });
    assert.deepEqual(outcomesOf(ledger), [["failed", "asked"]]);
    ledger.reported(wish, origin, undefined);
    ledger.resolved(wish, [mirror, origin]);
    assert.deepEqual(ledger.explain(), [
      {
        ...wish,
        resolvedAtMs: 7,
        hosts: [
          {
            host: { scheme: "https", host: "mirror.example", upstreamNamespace: "registry.example" },
            outcome: "failed",
            failure: "HTTP 404",
            tried: [],
            lastUsedAtMs: 7,
            authorizations: 0,
          },
          {
            host: { scheme: "https", host: "registry.example" },
            outcome: "served",
            keychain: "docker-config",
            challenge: "bearer",
            tried,
            lastUsedAtMs: 7,
            authorizations: 1,
          },
        ],
      },
    ]);
  });

  test("forgets a host that serves it no more, and what is no longer so", () => {
    const ledger = new Ledger();
    ledger.resolved(wish, [mirror, origin]);
    ledger.refused(wish, origin, { challenge: "basic", tried: [] });
    assert.equal(ledger.explain()[0]?.hosts[1]?.failure, "no credential opens it");
    ledger.authorized(wish, origin, { keychain: "session", challenge: "basic", tried: [] });
    ledger.reported(wish, origin, undefined);
    ledger.resolved(wish, [origin]);
    const [host, ...others] = ledger.explain()[0]?.hosts ?? [];
    assert.deepEqual([host?.outcome, host?.failure, others], ["served", undefined, []]);
  });

  test("is bounded, whatever is told to it, and tells the latest first", () => {
    const ledger = new Ledger();
    const long = "x".repeat(100_000);
    for (let index = 0; index < 3000; index += 1) {
      const each = { reference: `registry.example/app:${index}`, access: "pull" } as const;
      const host = { ...origin, host: `h${index % 20}.example` };
      const tried = Array.from({ length: 100 }, () => ({ keychain: "k", reason: long }));
      ledger.resolved(
        each,
        Array.from({ length: 100 }, (_, number) => ({ ...origin, host: `${number}` })),
      );
      ledger.authorized(each, host, { keychain: "k", challenge: "basic", tried });
      ledger.reported(each, host, long);
    }
    const all = ledger.explain();
    assert.equal(all.length, 1024);
    assert.equal(all[0]?.reference, "registry.example/app:2999");
    assert.ok(JSON.stringify(all).length < 10_000_000);
    assert.ok(all.every(({ hosts }) => hosts.length <= 8));
  });
});
