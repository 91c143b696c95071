import assert from "node:assert/strict";
import { test } from "node:test";
import { PermissionDeniedError } from "@oci-worker/errdefs";
import { Refusals } from "./refusals.ts";

test("a refusal counts for its identity and target, and for a while", () => {
  let now = 0;
  const refusals = new Refusals(() => now);
  const why = new PermissionDeniedError("no");
  refusals.add("who", "what", why, "registry");
  refusals.add("who", "token", why, "token server");
  assert.deepEqual(
    [refusals.get("who", "what"), refusals.get("who", "other"), refusals.get("other", "what")],
    [why, undefined, undefined],
  );
  assert.equal(refusals.get("who", "token"), why);
  now = 5000;
  assert.deepEqual([refusals.get("who", "what"), refusals.get("who", "token")], [why, undefined]);
  now = 30_000;
  assert.equal(refusals.get("who", "what"), undefined);
});
