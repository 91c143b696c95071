import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { UnavailableError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { maxAnswerBytes, parseTokenAnswer, tokenOf } from "./token-answer.ts";

const now = Date.parse("2027-01-01T00:00:00Z");

function parse(answer: unknown) {
  const { value, renewAtMs } = parseTokenAnswer(Buffer.from(JSON.stringify(answer)), "auth.example", now);
  return [value.reveal(), renewAtMs - now];
}

describe("parseTokenAnswer", () => {
  test("takes either name, and renews at nine tenths of the life", () => {
    assert.deepEqual(parse({ token: "a", expires_in: 300 }), ["a", 270_000]);
    assert.deepEqual(parse({ access_token: "b", expires_in: 100 }), ["b", 90_000]);
    assert.deepEqual(parse({ token: "", access_token: "b" }), ["b", 54_000]);
  });

  test("a token of unknown life lives for a minute", () => {
    assert.deepEqual(parse({ token: "a" }), ["a", 54_000]);
    assert.deepEqual(parse({ token: "a", expires_in: 0 }), ["a", 54_000]);
  });

  test("a token that is old already lives as much shorter", () => {
    const issued = (ms: number) => ({ issued_at: new Date(now + ms).toISOString() });
    assert.deepEqual(parse({ token: "a", expires_in: 300, ...issued(-100_000) }), ["a", 170_000]);
  });

  test("the clock of a server that cannot be right does not count", () => {
    for (const ms of [-3_600_000, 3_600_000]) {
      const answer = { token: "a", expires_in: 300, issued_at: new Date(now + ms).toISOString() };
      assert.deepEqual(parse(answer), ["a", 270_000]);
    }
    assert.deepEqual(parse({ token: "a", expires_in: 300, issued_at: "yesterday" }), ["a", 270_000]);
  });

  test("no token lives longer than a year", () => {
    assert.deepEqual(parse({ token: "a", expires_in: Number.MAX_SAFE_INTEGER }), ["a", 31_536_000_000 * 0.9]);
  });

  test("what is no token is refused, and not repeated", () => {
    for (const answer of [
      {},
      { token: 1 },
      { token: "" },
      { token: "c4n4ry\r\nX: 1" },
      [],
      { expires_in: -1, token: "c4n4ry" },
    ]) {
      assert.throws(
        () => parse(answer),
        (error) => {
          assert.ok(error instanceof UnavailableError);
          assert.equal(error.message, "Cannot get token from auth.example: its answer has no token in it");
          return !String(error.cause).includes("c4n4ry");
        },
      );
    }
    assert.throws(() => parseTokenAnswer(Buffer.alloc(maxAnswerBytes + 1), "a", now), UnavailableError);
  });

  test("reads or refuses, whatever the answer", () => {
    const answer = fc.record(
      { token: fc.anything(), access_token: fc.string(), expires_in: fc.anything(), issued_at: fc.string() },
      { requiredKeys: [] },
    );
    const bytes = fc.oneof(
      fc.uint8Array(),
      fc.json().map((text) => Buffer.from(text)),
      answer.map((object) =>
        Buffer.from(JSON.stringify(object, (_, value) => (typeof value === "bigint" ? 1 : value))),
      ),
    );
    fc.assert(
      fc.property(bytes, (input) => {
        try {
          const { value, renewAtMs } = parseTokenAnswer(input, "auth.example", now);
          assert.match(value.reveal(), /^[\x21-\x7e]+$/);
          assert.ok(renewAtMs > now);
        } catch (error) {
          assert.ok(error instanceof UnavailableError);
        }
      }),
    );
  });
});

test("a token of a client is checked likewise", () => {
  assert.equal(tokenOf("a", { seconds: 10 }, now).renewAtMs, now + 9000);
  assert.throws(() => tokenOf("a b", { seconds: 10 }, now), UnavailableError);
});
