import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parseChallenges } from "./challenge.ts";

function parsed(...headers: readonly string[]) {
  return parseChallenges(headers).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

describe("parseChallenges", () => {
  test("reads what Docker's registry sends", () => {
    assert.deepEqual(
      parsed(
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push"',
      ),
      [
        [
          "bearer",
          {
            realm: "https://auth.docker.io/token",
            service: "registry.docker.io",
            scope: "repository:library/alpine:pull,push",
          },
        ],
      ],
    );
  });

  test("tells challenges in one header from parameters of one challenge", () => {
    assert.deepEqual(
      parsed('Basic realm="a, b", Bearer realm="x" , service=y,Negotiate, Digest qop="auth"'),
      [
        ["basic", { realm: "a, b" }],
        ["bearer", { realm: "x", service: "y" }],
        ["negotiate", {}],
        ["digest", { qop: "auth" }],
      ],
    );
  });

  test("keeps the order of several headers", () => {
    assert.deepEqual(
      parsed("Basic", 'BEARER Realm="x"').map(([scheme]) => scheme),
      ["basic", "bearer"],
    );
  });

  test("takes off quotes and backslashes", () => {
    assert.deepEqual(parsed('Basic realm="say \\"hi\\" \\\\ there"'), [
      ["basic", { realm: 'say "hi" \\ there' }],
    ]);
  });

  test("allows spaces around the sign of equality", () => {
    assert.deepEqual(parsed('Bearer realm = "x" ,scope= "s"'), [["bearer", { realm: "x", scope: "s" }]]);
  });

  test("passes over a token instead of parameters", () => {
    assert.deepEqual(parsed("Negotiate YWJj/+==, Basic realm=x"), [
      ["negotiate", {}],
      ["basic", { realm: "x" }],
    ]);
  });

  test("a slip in one challenge does not hide the next", () => {
    for (const slip of ['realm="x"', "=", '"', "Basic realm=", 'Basic realm="x', "\u0000"]) {
      assert.ok(
        parsed(slip, 'Bearer realm="x"').some(([scheme]) => scheme === "bearer"),
        slip,
      );
    }
    assert.deepEqual(parsed('=x, ;;, Bearer realm="x"').at(-1), ["bearer", { realm: "x" }]);
  });

  test("the first of two parameters of one name counts, and none is inherited", () => {
    assert.deepEqual(parsed("Bearer realm=a,realm=b"), [["bearer", { realm: "a" }]]);
    assert.equal(parseChallenges(["Bearer x=1"])[0]?.parameters.get("constructor"), undefined);
  });

  test("reads back what is written, whatever the values", () => {
    const name = fc.constantFrom("realm", "service", "scope", "error");
    const value = fc.string({ unit: "grapheme-ascii" });
    const challenge = fc.tuple(fc.constantFrom("basic", "bearer", "x-own"), fc.dictionary(name, value));
    const quote = (text: string) => `"${text.replace(/["\\]/g, "\\$&")}"`;
    fc.assert(
      fc.property(fc.array(challenge), (challenges) => {
        const header = challenges
          .map(([scheme, parameters]) => {
            const pairs = Object.entries(parameters).map(([key, text]) => `${key}=${quote(text)}`);
            return `${scheme} ${pairs.join(",")}`;
          })
          .join(", ");
        const want = challenges.map(([scheme, parameters]) => [scheme, { ...parameters }]);
        assert.deepEqual(parsed(header), want);
      }),
    );
  });

  test("ends without an error, whatever the header", () => {
    const pieces = fc.constantFrom("Basic", " ", ",", "=", '"', "\\", "realm", "x", "\t", "é", "==");
    const header = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(fc.array(header), (headers) => {
        assert.ok(Array.isArray(parseChallenges(headers)));
      }),
      { numRuns: 2000 },
    );
  });

  test("reads no more of a header than Node lets in", () => {
    assert.deepEqual(parsed(`${" ".repeat(20_000)}Basic`), []);
  });
});
