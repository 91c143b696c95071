import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { topologicalOrder } from "./order.ts";

/** Real digests cannot form a cycle, but whoever trusts that has one hash function to trust. */
const graph = (edges: Readonly<Record<string, readonly string[]>>) =>
  new Map(Object.entries(edges).map(([key, inputs]) => [key, { inputs }]));

test("inputs come first, once, in the order they are named", () => {
  const nodes = graph({ a: [], b: ["a"], c: ["a"], d: ["c", "b", "c"], unused: ["d"] });
  assert.deepEqual(topologicalOrder(nodes, "d", 10), ["a", "c", "b", "d"]);
});

test("a node that needs itself is refused", () => {
  assert.throws(() => topologicalOrder(graph({ a: ["a"] }), "a", 10), /invalid cycle: a needs itself/);
});

test("a cycle on the way is refused", () => {
  const nodes = graph({ a: ["b"], b: ["c"], c: ["b"] });
  assert.throws(() => topologicalOrder(nodes, "a", 10), /invalid cycle: b needs itself/);
});

test("depth is that of the longest way, also when a shorter one is walked first", () => {
  const nodes = graph({ a: [], b: ["a"], c: ["b"], d: ["c"], root: ["b", "d"] });
  assert.equal(topologicalOrder(nodes, "root", 5).length, 5);
  assert.throws(() => topologicalOrder(nodes, "root", 4), /deeper than 4/);
});

test("in any graph every node comes after its inputs, or there is a cycle", () => {
  const anyGraph = fc.dictionary(
    fc.constantFrom("a", "b", "c", "d", "e"),
    fc.array(fc.constantFrom("a", "b", "c", "d", "e"), { maxLength: 3 }),
    { minKeys: 5 },
  );
  let ordered = 0;
  fc.assert(
    fc.property(anyGraph, (edges) => {
      const nodes = graph(edges);
      let order: readonly string[];
      try {
        order = topologicalOrder(nodes, "a", 10);
      } catch (error) {
        assert.match(String(error), /invalid cycle/);
        return;
      }
      ordered += 1;
      assert.equal(order.at(-1), "a");
      for (const [index, key] of order.entries()) {
        for (const input of nodes.get(key)?.inputs ?? []) {
          const at = order.indexOf(input);
          assert(at >= 0 && at < index, `${input} must come before ${key}`);
        }
      }
    }),
    { numRuns: 1000 },
  );
  assert(ordered > 0);
});
