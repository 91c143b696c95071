import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { digestOf } from "@oci-worker/oci/digest";
import { VertexReport } from "../solver/vertex-report.ts";
import { StepLog } from "./step-log.ts";

/** What comes out of a log with the given limits after `writes`. */
function passed(limits: Parameters<typeof newLog>[1], writes: readonly (readonly [1 | 2, string])[]) {
  const report = new VertexReport({ digest: digestOf(""), inputs: [], name: "step" });
  const output = { 1: "", 2: "" };
  report.subscribe((event) => {
    if (event.kind === "log") {
      output[event.log.stream] += Buffer.from(event.log.data).toString();
    }
  });
  {
    using log = newLog(report, limits);
    for (const [stream, text] of writes) {
      log.write(stream, Buffer.from(text));
    }
  }
  return output;
}

function newLog(
  report: VertexReport,
  limits: { readonly maxBytes: number; readonly maxBytesPerSecond: number },
) {
  return new StepLog(report, limits);
}

describe("a step's log", () => {
  test("passes everything on within its limits", () => {
    const output = passed({ maxBytes: 100, maxBytesPerSecond: 1000 }, [
      [1, "out"],
      [2, "err"],
    ]);
    assert.deepEqual(output, { 1: "out", 2: "err" });
  });

  test("clips each stream at the size limit and says so", () => {
    const output = passed({ maxBytes: 1024, maxBytesPerSecond: -1 }, [
      [1, "x".repeat(1000)],
      [1, "y".repeat(1000)],
      [2, "z"],
    ]);
    assert.equal(
      output[1],
      `${"x".repeat(1000)}${"y".repeat(24)}\n[output clipped, log limit 1KiB reached]\n`,
    );
    assert.equal(output[2], "z");
  });

  test("clips what comes faster than the speed limit and says so", () => {
    const output = passed({ maxBytes: -1, maxBytesPerSecond: 1024 }, [[1, "x".repeat(100_000)]]);
    assert.match(output[1], /^x{1024,3000}\n\[output clipped, log speed limit 1KiB\/s reached\]\n$/);
  });

  test("passes everything on without limits", () => {
    const text = "x".repeat(5 * 1024 * 1024);
    assert.equal(passed({ maxBytes: -1, maxBytesPerSecond: -1 }, [[1, text]])[1].length, text.length);
  });
});
