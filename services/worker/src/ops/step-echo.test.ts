import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { digestOf } from "@oci-worker/oci/digest";
import { pino } from "pino";
import { StepEcho } from "./step-echo.ts";

/** What is logged of what a step prints, in a log that is to be silent otherwise. */
function logged(writes: readonly (readonly [1 | 2, string | Buffer])[]): string[] {
  const lines: string[] = [];
  const log = pino({ level: "error" }, { write: (line: string) => void lines.push(line) });
  {
    using echo = new StepEcho(log, { digest: digestOf("step"), name: "a step" });
    for (const [stream, data] of writes) {
      echo.write(stream, Buffer.from(data));
    }
  }
  return lines.map((each) => {
    const { level, vertex, step, stream, line, msg } = JSON.parse(each) as Record<string, unknown>;
    assert.deepEqual([level, vertex, step, msg], [30, digestOf("step"), "a step", "step has printed"]);
    return `${stream}: ${line}`;
  });
}

describe("what a step prints is logged", () => {
  test("line by line, however it comes, each stream apart", () => {
    assert.deepEqual(
      logged([
        [1, "a\nb"],
        [2, "e\r\n"],
        [1, "c\n\nd"],
      ]),
      ["stdout: a", "stderr: e", "stdout: bc", "stdout: ", "stdout: d"],
    );
  });

  test("with characters whose bytes come apart", () => {
    const [first, second] = [Buffer.from("é").subarray(0, 1), Buffer.from("é").subarray(1)];
    assert.deepEqual(
      logged([
        [1, first],
        [1, second],
      ]),
      ["stdout: é"],
    );
  });

  test("in pieces, if it never ends a line", () => {
    const pieces = logged([[1, "x".repeat(40_000)]]);
    assert.deepEqual(
      pieces.map((piece) => piece.length),
      [16_384, 16_384, 7232].map((length) => length + "stdout: ".length),
    );
  });

  test("and is nothing, if there is nothing", () => {
    assert.deepEqual(logged([[1, ""]]), []);
  });
});
