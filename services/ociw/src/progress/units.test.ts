import assert from "node:assert/strict";
import { test } from "node:test";
import { fitted, padded, textWidth } from "./text-width.ts";
import { formatBytes, formatDuration } from "./units.ts";

test("bytes have the unit that keeps them short", () => {
  const cases: [bytes: number, want: string][] = [
    [0, "0B"],
    [999, "999B"],
    [1000, "1.00kB"],
    [1_080_000, "1.08MB"],
    [71_300_000, "71.3MB"],
    [180_000_000, "180.0MB"],
    [5_000_000_000_000_000, "5000.0TB"],
    [-5, "0B"],
  ];
  for (const [bytes, want] of cases) {
    assert.equal(formatBytes(bytes), want);
  }
});

test("durations are seconds with one decimal", () => {
  assert.deepEqual([0, 49, 50, 61_234, -5].map(formatDuration), ["0.0s", "0.0s", "0.1s", "61.2s", "0.0s"]);
});

test("text is measured, cut and padded in columns, not in characters", () => {
  assert.equal(textWidth("日本"), 4);
  assert.equal(textWidth("e\u0301"), 1);
  assert.equal(fitted("日本語", 5, "…"), "日本…");
  assert.equal(fitted("日本語", 4, "…"), "日…");
  assert.equal(fitted("abc", 3, "…"), "abc");
  assert.equal(fitted("abc", 0, "…"), "");
  assert.equal(padded("日", 4), "日  ");
});
