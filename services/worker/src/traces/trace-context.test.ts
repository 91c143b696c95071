import assert from "node:assert/strict";
import { test } from "node:test";
import { beginSpan, formatTraceParent, parseTraceParent } from "./trace-context.ts";

const traceID = "4bf92f3577b34da6a3ce929d0e0e4736";
const spanID = "00f067aa0ba902b7";

test("a place in a trace is read and told as W3C has it", () => {
  const sampled = parseTraceParent(`00-${traceID}-${spanID}-01`, "a=1,b=2");
  assert.deepEqual(sampled, { traceID, spanID, isSampled: true, state: "a=1,b=2" });
  assert.equal(
    formatTraceParent({ traceID, spanID, isSampled: true, state: "" }),
    `00-${traceID}-${spanID}-01`,
  );
  assert.equal(parseTraceParent(`00-${traceID}-${spanID}-02`)?.isSampled, false);
  assert.equal(
    formatTraceParent({ traceID, spanID, isSampled: false, state: "" }),
    `00-${traceID}-${spanID}-00`,
  );
  assert.equal(parseTraceParent(`cc-${traceID}-${spanID}-01-what-comes`)?.spanID, spanID, "a later version");
});

test("what names no place is nobody's", () => {
  for (const parent of [
    "",
    traceID,
    `00-${traceID}-${spanID}`,
    `00-${traceID}-${spanID}-01-more`,
    `00-${traceID}-${spanID}-01\n`,
    `ff-${traceID}-${spanID}-01`,
    `00-${"0".repeat(32)}-${spanID}-01`,
    `00-${traceID}-${"0".repeat(16)}-01`,
    `00-${traceID.toUpperCase()}-${spanID}-01`,
  ]) {
    assert.equal(parseTraceParent(parent), undefined, parent);
  }
});

test("what goes on with a place goes into no environment that cannot have it", () => {
  for (const state of ["a=1\nLD_PRELOAD=x", "a=\0", "ä=1", "a=".padEnd(513, "1")]) {
    assert.equal(parseTraceParent(`00-${traceID}-${spanID}-01`, state)?.state, "", state);
  }
});

test("a span begins within what it is a part of, or a trace of its own", () => {
  const parent = { traceID, spanID, isSampled: false, state: "a=1" };
  const child = beginSpan(parent);
  assert.deepEqual({ ...child, spanID }, parent);
  assert.notEqual(child.spanID, spanID);
  const first = beginSpan();
  assert.deepEqual(parseTraceParent(formatTraceParent(first)), first);
  assert.notEqual(beginSpan().traceID, first.traceID);
});
