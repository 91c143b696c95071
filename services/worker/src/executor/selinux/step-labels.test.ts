import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ResourceExhaustedError } from "@oci-worker/errdefs";
import { parseLabel } from "./context.ts";
import { LabelPool } from "./step-labels.ts";

const policy = {
  process: parseLabel("u:r:p:s0-s0:c0.c1023", "process"),
  file: parseLabel("u:object_r:f:s0", "file"),
};

/** Gives these numbers, one after the other. */
function picking(...numbers: readonly number[]) {
  const left = [...numbers];
  return () => left.shift() ?? assert.fail("no more are expected to be asked for");
}

describe("a step", () => {
  test("has a pair of categories that nobody has who runs at the same time", () => {
    const pool = new LabelPool(policy, picking(5, 2, 2, 5, 7, 7, 3, 4, 5, 2));
    using first = pool.take(true);
    assert.equal(first.process, "u:r:p:s0:c2,c5");
    assert.equal(first.mount, "u:object_r:f:s0:c2,c5");
    assert.equal(first.shared, "u:object_r:f:s0");
    const second = pool.take(true);
    assert.equal(second.process, "u:r:p:s0:c3,c4");
    first[Symbol.dispose]();
    assert.equal(pool.take(true).process, "u:r:p:s0:c2,c5", "it is free again");
  });

  test("that is not confined has a label for its file systems alone, which no other step may look at", () => {
    const pool = new LabelPool(policy, picking(1022, 1023, 0, 1));
    for (const labels of [pool.take(false), pool.take(false)]) {
      assert.deepEqual([labels.process, labels.mount], ["", "u:object_r:f:s0:c1022,c1023"]);
      labels[Symbol.dispose]();
    }
    assert.equal(pool.take(true).mount, "u:object_r:f:s0:c0,c1");
  });

  test("has no categories where the policy has none", () => {
    const plain = { process: parseLabel("u:r:p", "process"), file: parseLabel("u:r:f", "file") };
    const { process, mount, shared } = new LabelPool(plain).take(true);
    assert.deepEqual([process, mount, shared], ["u:r:p", "u:r:f", "u:r:f"]);
  });

  test("is refused if there is no pair left", () => {
    const pool = new LabelPool(policy, () => 1);
    assert.throws(() => pool.take(true), ResourceExhaustedError);
  });
});
