import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError, UnauthenticatedError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { demandOf } from "./demand.ts";
import type { RegistryHost } from "./host.ts";

const host: RegistryHost = { scheme: "https", host: "registry.example", path: "/v2", capabilities: ["pull"] };
const plainHost: RegistryHost = { ...host, scheme: "http" };
const bearer = 'Bearer realm="https://auth.example/token",service="s",scope="a:b:c d:e:f"';

describe("demandOf", () => {
  test("prefers a token to a password, wherever they stand", () => {
    const want = {
      scheme: "bearer",
      realm: new URL("https://auth.example/token"),
      service: "s",
      scopes: ["a:b:c", "d:e:f"],
      isInsufficient: false,
    };
    assert.deepEqual(demandOf([`Basic realm="x", ${bearer}`], host), want);
    assert.deepEqual(demandOf([bearer, "Basic"], host), want);
    assert.deepEqual(demandOf(["Negotiate", 'BASIC realm="x"'], host), { scheme: "basic" });
  });

  test("sees that a token is good and allows too little", () => {
    const demand = demandOf([`${bearer},error="insufficient_scope"`], host);
    assert.ok(demand.scheme === "bearer" && demand.isInsufficient);
  });

  test("falls back to a password where the token server is none", () => {
    assert.deepEqual(demandOf(['Bearer realm="nowhere", Basic realm="x"'], host), { scheme: "basic" });
  });

  test("sends no credentials in the clear for a registry with https", () => {
    const insecure = 'Bearer realm="http://auth.example/token"';
    assert.throws(() => demandOf([insecure], host), InvalidArgumentError);
    assert.equal(demandOf([insecure], plainHost).scheme, "bearer");
    const here = 'Bearer realm="http://127.0.0.1:5001/token"';
    assert.equal(demandOf([here], { ...host, host: "localhost:5000" }).scheme, "bearer");
  });

  test("lets no registry elsewhere have us ask around on this machine", () => {
    for (const name of ["127.0.0.1:5001", "localhost", "[::1]:80", "127.9.9.9"]) {
      for (const scheme of ["http", "https"]) {
        const challenge = `Bearer realm="${scheme}://${name}/token"`;
        assert.throws(() => demandOf([challenge], plainHost), InvalidArgumentError, challenge);
      }
    }
  });

  test("reads as many challenges as an honest registry sends", () => {
    const many = Array.from({ length: 16 }, () => "Negotiate");
    assert.throws(() => demandOf([...many, "Basic"], host), UnauthenticatedError);
    assert.deepEqual(demandOf([...many.slice(1), "Basic"], host), { scheme: "basic" });
  });

  test("refuses a challenge that makes no sense, and shows it", () => {
    for (const challenge of [
      "",
      "=",
      'Bearer service="x"',
      'Bearer realm="file:///x"',
      'Bearer realm="https://u:p@h/"',
    ]) {
      assert.throws(
        () => demandOf([challenge], host),
        (error) => error instanceof InvalidArgumentError && error.message.includes("registry.example"),
        challenge,
      );
    }
  });

  test("refuses ways that we do not know", () => {
    assert.throws(
      () => demandOf(["Negotiate, Digest qop=auth"], host),
      (error) => {
        assert.ok(error instanceof UnauthenticatedError);
        assert.match(error.message, /it wants negotiate or digest/);
        return true;
      },
    );
  });

  test("answers or refuses, whatever the headers", () => {
    const piece = fc.constantFrom(
      "Bearer ",
      "Basic ",
      'realm="',
      "https://x/",
      '"',
      ",",
      "scope=",
      "\\",
      " ",
    );
    const header = fc.oneof(
      fc.string(),
      fc.array(piece).map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(fc.array(header), (headers) => {
        try {
          demandOf(headers, host);
        } catch (error) {
          assert.ok(error instanceof InvalidArgumentError || error instanceof UnauthenticatedError);
        }
      }),
    );
  });
});
