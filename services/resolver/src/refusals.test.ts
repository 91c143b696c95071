import assert from "node:assert/strict";
import { test } from "node:test";
import { Refusals } from "./refusals.ts";

test("a refusal counts for its identity and target, and for a while", () => {
  let now = 0;
  const refusals = new Refusals(() => now);
  refusals.add("who", "what");
  assert.deepEqual(
    [refusals.has("who", "what"), refusals.has("who", "other"), refusals.has("other", "what")],
    [true, false, false],
  );
  now = 30_000;
  assert.equal(refusals.has("who", "what"), false);
});
