import assert from "node:assert/strict";
import { test } from "node:test";
import { soakLazyReads } from "../soak/lazy-reads.ts";

test("no read of a lazy layer fails while tokens of five seconds expire and sessions come and go", async () => {
  const report = await soakLazyReads({
    durationMs: 20_000,
    mishaps: ["well", "fails", "well", "limits"],
  });
  assert.deepEqual(report.failures, []);
  assert.ok(report.reads > 50, `${report.reads} reads`);
  assert.ok(report.sessions >= 2, `${report.sessions} sessions`);
  assert.ok(report.tokens >= 3, `${report.tokens} tokens`);
});
