import assert from "node:assert/strict";
import { test } from "node:test";
import { failureLine } from "./failure.ts";
import { table } from "./table.ts";

test("a cell may have several lines, and nothing ends in spaces", () => {
  const rows = [
    [["one"], ["a", "b"], ["x=1"]],
    [["second"], [], ["y=2", "z=3"]],
  ];
  assert.equal(
    table(["ID", "LIST", "LABELS"], rows),
    [
      "ID      LIST  LABELS",
      "one     a     x=1",
      "        b",
      "second        y=2",
      "              z=3",
      "",
    ].join("\n"),
  );
});

test("a failure is one line that cannot steer the terminal", () => {
  assert.equal(failureLine("p", new Error("bad\n\x1b[2Jthing\x07\tx")), "p: bad thing\ufffd x\n");
  assert.equal(failureLine("p", "text"), "p: text\n");
});
