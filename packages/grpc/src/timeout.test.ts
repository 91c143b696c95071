import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatTimeout, parseTimeout } from "./timeout.ts";

test("grpc-timeout is written with eight digits at most and read back no shorter than it was", () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e13, noNaN: true }), (timeoutMs) => {
      const header = formatTimeout(timeoutMs);
      assert.match(header, /^\d{1,8}[mSM]$/);
      assert(parseTimeout(header) >= Math.min(timeoutMs, 2 ** 31 - 1));
    }),
  );
});
