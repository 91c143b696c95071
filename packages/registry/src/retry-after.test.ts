import assert from "node:assert/strict";
import { test } from "node:test";
import { retryAfterMs } from "./retry-after.ts";

test("Retry-After is seconds or a moment", () => {
  const now = Date.parse("Fri, 01 Jan 2027 00:00:00 GMT");
  assert.equal(retryAfterMs("3", now), 3000);
  assert.equal(retryAfterMs("Fri, 01 Jan 2027 00:00:05 GMT", now), 5000);
  assert.equal(retryAfterMs("Thu, 31 Dec 2026 00:00:00 GMT", now), 0);
  for (const header of [undefined, "", "soon", "-1", "99999999999"]) {
    assert.equal(retryAfterMs(header, now), undefined, String(header));
  }
});
