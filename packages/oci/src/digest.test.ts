import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { digestOf, digestOfHash, hexOf, isDigest, parseDigest } from "./digest.ts";

describe("a digest", () => {
  test("is sha256 with 64 lower-case hex digits, and nothing around them", () => {
    const hex = "0123456789abcdef".repeat(4);
    assert.equal(hexOf(parseDigest(`sha256:${hex}`)), hex);
    for (const text of [
      "",
      "sha256:",
      hex,
      `sha256:${hex.toUpperCase()}`,
      `SHA256:${hex}`,
      `sha256:${hex}0`,
      `sha256:${hex.slice(1)}`,
      ` sha256:${hex}`,
      `sha256:${hex}\n`,
      `sha512:${hex.repeat(2)}`,
      `sha256:${"../".repeat(21)}x`,
    ]) {
      assert.ok(!isDigest(text), text);
      assert.throws(() => parseDigest(text), InvalidArgumentError, text);
    }
  });

  test("is that of any bytes, at once or piece by piece", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (start, end) => {
        const whole = digestOf(Buffer.concat([start, end]));
        assert.equal(parseDigest(whole), whole);
        assert.equal(digestOfHash(createHash("sha256").update(start).update(end)), whole);
      }),
    );
  });

  test("is made of nothing else, which is told with its beginning", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string({ unit: fc.constantFrom(..."sha256:0af") }).map((rest) => `sha256:${rest}`),
      fc.constant("x".repeat(64 * 1024)),
    );
    fc.assert(
      fc.property(text, (input) => {
        try {
          assert.match(parseDigest(input), /^sha256:[0-9a-f]{64}$/);
        } catch (error) {
          assert.ok(error instanceof InvalidArgumentError, String(error));
          assert.ok(
            error.message.startsWith(`Cannot use ${JSON.stringify(input.slice(0, 200))} as a digest`),
          );
          assert.ok(error.message.length < 2000);
        }
      }),
    );
  });
});
