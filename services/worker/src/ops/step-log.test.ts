import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { digestOf } from "@oci-worker/oci/digest";
import { VertexReport } from "../solver/vertex-report.ts";
import { StepLog, type StepLogLimits } from "./step-log.ts";

/** What comes out of a log with the given limits after `writes`, and after the step has failed if it does. */
function passed(
  limits: StepLogLimits,
  writes: readonly (readonly [1 | 2, string])[],
  { hasFailed = false }: { readonly hasFailed?: boolean } = {},
) {
  const report = new VertexReport({ digest: digestOf(""), inputs: [], name: "step" });
  const output = { 1: "", 2: "" };
  report.subscribe((event) => {
    if (event.kind === "log") {
      output[event.log.stream] += Buffer.from(event.log.data).toString();
    }
  });
  const log = new StepLog(report, limits);
  for (const [stream, text] of writes) {
    log.write(stream, Buffer.from(text));
  }
  if (hasFailed) {
    log.showTails();
  }
  return output;
}

describe("a step's log", () => {
  test("passes everything on within its limits", () => {
    const output = passed({ maxBytes: 100, maxBytesPerSecond: 1000 }, [
      [1, "out"],
      [2, "err"],
    ]);
    assert.deepEqual(output, { 1: "out", 2: "err" });
  });

  test("clips each stream at the size limit and says so there, once", () => {
    const output = passed({ maxBytes: 1024, maxBytesPerSecond: -1 }, [
      [1, "x".repeat(1000)],
      [1, "y".repeat(1000)],
      [1, "z".repeat(1000)],
      [2, "z"],
    ]);
    assert.equal(
      output[1],
      `${"x".repeat(1000)}${"y".repeat(24)}\n[output clipped, log limit 1KiB reached]\n`,
    );
    assert.equal(output[2], "z");
  });

  test("clips what comes faster than the speed limit, says so, and goes on with what comes in time", (context) => {
    let nowMs = 0;
    context.mock.method(performance, "now", () => nowMs);
    const report = new VertexReport({ digest: digestOf(""), inputs: [], name: "step" });
    let output = "";
    report.subscribe((event) => {
      output += event.kind === "log" ? Buffer.from(event.log.data).toString() : "";
    });
    const log = new StepLog(report, { maxBytes: 1024 * 1024, maxBytesPerSecond: 1536 });
    log.write(1, Buffer.from("x".repeat(1536 + 100)));
    nowMs = 999;
    log.write(1, Buffer.from("left out"));
    nowMs = 1000;
    log.write(1, Buffer.from("later\n"));
    assert.equal(output, `${"x".repeat(1536)}\n[output clipped, log limit 1.5KiB/s reached]\nlater\n`);
  });

  test("shows the end of what was clipped if the step has failed", () => {
    const lines = Array.from({ length: 100_000 }, (_, index) => `line ${index}\n`);
    const writes = lines.map((line) => [2, line] as const);
    const limits = { maxBytes: 1000, maxBytesPerSecond: -1 };
    assert.match(
      passed(limits, writes)[2],
      /^line 0\n[\s\S]{985,1000}\n\[output clipped, log limit 1000B reached\]\n$/,
    );
    const [head = "", tail = ""] = passed(limits, writes, { hasFailed: true })[2].split(
      "limit 1000B reached]\n",
    );
    assert(head.startsWith("line 0\n"));
    assert.equal(tail, lines.join("").slice(-256 * 1024));
    const chunks = ["a".repeat(1001), "b".repeat(300_000), "c".repeat(262_143)].map(
      (text) => [1, text] as const,
    );
    assert(passed(limits, chunks, { hasFailed: true })[1].endsWith(`]\nb${"c".repeat(262_143)}`));
    assert.deepEqual(passed(limits, [[1, "all of it\n"]], { hasFailed: true }), { 1: "all of it\n", 2: "" });
  });

  test("passes everything on without limits", () => {
    const text = "x".repeat(5 * 1024 * 1024);
    assert.equal(passed({ maxBytes: -1, maxBytesPerSecond: -1 }, [[1, text]])[1].length, text.length);
  });
});
