import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Queue } from "./queue.ts";

test("a queue gives back what came first, as an array would", () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 200 }), (steps) => {
      const [queue, model]: [Queue<number>, number[]] = [new Queue(), []];
      for (const [index, isPush] of steps.entries()) {
        if (isPush) {
          queue.push(index);
          model.push(index);
        } else {
          assert.equal(queue.shift(), model.shift());
        }
        assert.equal(queue.length, model.length);
      }
    }),
  );
});
