import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TraceRecorder, type TraceRecording } from "./recorder.ts";
import { requestOf, sampleTraceID } from "./sample-span.ts";

const otherTraceID = "0".repeat(31).concat("1");

function namesOf(recording: TraceRecording): string[] {
  return recording
    .text()
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line).Name);
}

describe("a recorder", () => {
  test("keeps the spans of a trace for every build in it, those that came before one was known among them", () => {
    const recorder = new TraceRecorder();
    recorder.take(
      requestOf({ name: "early" }, { name: "other's", traceId: Buffer.from(otherTraceID, "hex") }),
    );
    const first = recorder.record(sampleTraceID);
    recorder.take(requestOf({ name: "later" }));
    const second = recorder.record(sampleTraceID);
    const [own] = requestOf({ name: "own" }).resourceSpans;
    assert(own !== undefined);
    second.add(own);
    assert.deepEqual(namesOf(first), ["early", "later"]);
    assert.deepEqual(namesOf(second), ["early", "later", "own"]);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    recorder.take(requestOf({ name: "last" }));
    assert.deepEqual(namesOf(second), ["early", "later", "last", "own"]);
    second[Symbol.dispose]();
    using third = recorder.record(sampleTraceID);
    assert.equal(third.text(), "");
  });

  test("is not filled by whoever sends too many, and tells them", () => {
    const recorder = new TraceRecorder({ limits: { spans: 3, characters: 10_000 } });
    using recording = recorder.record(sampleTraceID);
    const flood = Array.from({ length: 5 }, (_, index) => ({ name: `${index}` }));
    const taken = recorder.take(requestOf(...flood));
    assert.equal(taken.rejected, 2);
    assert.match(taken.why, /^2 too many, want at most 3 spans and 10000 bytes for a trace$/);
    assert.deepEqual(namesOf(recording), ["0", "1", "2"]);
    assert.equal(recording.dropped, 2);
    const [own] = requestOf({ name: "own" }).resourceSpans;
    assert(own !== undefined);
    recording.add(own);
    assert.deepEqual(namesOf(recording), ["0", "1", "2", "own"], "what the worker has done is always told");
    using large = recorder.record(otherTraceID);
    const other = { traceId: Buffer.from(otherTraceID, "hex") };
    const { rejected } = recorder.take(
      requestOf({ ...other, name: "x".repeat(20_000) }, { ...other, name: "y" }),
    );
    assert.equal(rejected, 1);
    assert.deepEqual(namesOf(large), ["y"]);
  });

  test("forgets what nobody has asked for when more comes", () => {
    const recorder = new TraceRecorder();
    recorder.take(requestOf({ name: "early" }));
    const more = Array.from({ length: 1000 }, (_, index) => {
      const traceId = Buffer.alloc(16);
      traceId.writeUInt32BE(index + 1);
      return { traceId, name: `${index}` };
    });
    assert.deepEqual(recorder.take(requestOf(...more)), { rejected: 0, why: "" });
    using forgotten = recorder.record(sampleTraceID);
    assert.deepEqual(namesOf(forgotten), []);
    using kept = recorder.record("00000001".padEnd(32, "0"));
    assert.deepEqual(namesOf(kept), ["0"]);
    recorder.take(requestOf({ traceId: Buffer.from(otherTraceID, "hex"), name: "x".repeat(3_000_000) }));
    using large = recorder.record(otherTraceID);
    assert.deepEqual(namesOf(large), []);
  });

  test("takes no span that has no name of its own in a trace", () => {
    const recorder = new TraceRecorder();
    const taken = recorder.take(
      requestOf(
        { traceId: new Uint8Array() },
        { traceId: new Uint8Array(16) },
        { spanId: Buffer.alloc(9, 1) },
      ),
    );
    assert.equal(taken.rejected, 3);
    assert.match(taken.why, /^3 without the ids of trace and span, want 16 and 8 bytes$/);
  });
});
