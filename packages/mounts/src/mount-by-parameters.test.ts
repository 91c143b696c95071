import assert from "node:assert/strict";
import { test } from "node:test";
import { mountParameters } from "./mount-by-parameters.ts";

test("options become parameters: lower directories one by one, labels without their quotation marks", () => {
  assert.deepEqual(
    mountParameters(["volatile", "lowerdir=/a:/b", "upperdir=/u", 'context="u:r:t:s0:c1,c2"', 'x="y"']),
    [
      ["volatile", undefined],
      ["lowerdir+", "/a"],
      ["lowerdir+", "/b"],
      ["upperdir", "/u"],
      ["context", "u:r:t:s0:c1,c2"],
      ["x", '"y"'],
    ],
  );
});
