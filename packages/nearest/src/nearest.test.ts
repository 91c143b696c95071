import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { nearest } from "./nearest.ts";

const known = ["run", "workers", "info", "platform", "progress"];

describe("nearest takes", () => {
  const cases: [text: string, want: string | undefined][] = [
    ["workres", "workers"],
    ["worker", "workers"],
    ["w", "workers"],
    ["rnu", "run"],
    ["inof", "info"],
    ["plattform", "platform"],
    ["pogress", "progress"],
    ["build", undefined],
    ["xyz", undefined],
  ];
  for (const [text, want] of cases) {
    test(`${text} for ${want ?? "nothing"}`, () => {
      assert.equal(nearest(text, known), want);
    });
  }
});

test("a name is nearest to itself, also with one letter dropped or doubled", () => {
  fc.assert(
    fc.property(fc.constantFrom(...known), fc.nat(20), (name, at) => {
      const index = at % name.length;
      assert.equal(nearest(name, known), name);
      assert.equal(nearest(name.slice(0, index) + name.slice(index + 1), known), name);
      assert.equal(
        nearest(name.slice(0, index) + name.slice(index, index + 1) + name.slice(index), known),
        name,
      );
    }),
  );
});
