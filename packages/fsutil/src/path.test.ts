import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { comparePaths, requireCleanPath } from "./path.ts";

test("comparePaths orders as Go does: by UTF-8 bytes, the slash first", () => {
  const text = fc.string({ unit: "binary", maxLength: 6 });
  const path = fc.array(fc.oneof(text, fc.constantFrom("a", "a-", "\uffee", "\u{1f600}", "!")), {
    maxLength: 4,
  });
  fc.assert(
    fc.property(path, path, (left, right) => {
      const [a, b] = [left.join("/").replaceAll("\0", ""), right.join("/").replaceAll("\0", "")];
      const bytes = (value: string) => Buffer.from(value.replaceAll("/", "\0"));
      assert.equal(Math.sign(comparePaths(a, b)), Buffer.compare(bytes(a), bytes(b)));
    }),
    { numRuns: 5000 },
  );
});

test("requireCleanPath takes whatever stays inside and is written in one way only", () => {
  const part = fc.constantFrom("a", "..", ".", "", "b.c", "...", " ");
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
      const clean = !parts.some((each) => ["", ".", ".."].includes(each));
      const check = () => requireCleanPath(parts.join("/"));
      if (clean) {
        check();
      } else {
        assert.throws(check, /not clean/);
      }
    }),
  );
});
