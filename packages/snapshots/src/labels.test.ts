import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { changeLabels, checkLabels, labelChangeOf, updatePathsOf } from "./labels.ts";

const current = { a: "1", b: "2" };

describe("labelChangeOf", () => {
  const cases = [
    { name: "no path replaces all labels", labels: { c: "3" }, paths: [], want: { c: "3" } },
    { name: "`labels` replaces all labels", labels: { c: "3" }, paths: ["labels"], want: { c: "3" } },
    { name: "`labels` without labels deletes all", labels: {}, paths: ["labels"], want: {} },
    {
      name: "a path sets its label and no other",
      labels: { a: "x", b: "x" },
      paths: ["labels.a"],
      want: { a: "x", b: "2" },
    },
    { name: "a path of an absent label deletes it", labels: {}, paths: ["labels.a"], want: { b: "2" } },
    { name: "a path of an empty label deletes it", labels: { a: "" }, paths: ["labels.a"], want: { b: "2" } },
    {
      name: "`labels` beside a path replaces all",
      labels: { a: "x" },
      paths: ["labels.a", "labels"],
      want: { a: "x" },
    },
    {
      name: "a key is all that follows the first dot",
      labels: { "x.y/z.Foo_bar": "1" },
      paths: ["labels.x.y/z.Foo_bar"],
      want: { a: "1", b: "2", "x.y/z.Foo_bar": "1" },
    },
    {
      name: "a key may be that of an inherited property",
      labels: {},
      paths: ["labels.toString"],
      want: current,
    },
  ];
  for (const { name, labels, paths, want } of cases) {
    test(name, () => {
      assert.deepEqual(changeLabels(current, labelChangeOf(labels, paths)), want);
    });
  }

  for (const path of ["parent", "kind", "name", "created_at", "label", "labels2", ""]) {
    test(`the path ${JSON.stringify(path)} is refused, whatever stands beside it`, () => {
      assert.throws(() => labelChangeOf({ a: "x" }, ["labels.a", path]), InvalidArgumentError);
    });
  }

  test("reads back what updatePathsOf writes", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true }), (labels) => {
        const merge = { merge: labels };
        assert.deepEqual(
          labelChangeOf(labels, updatePathsOf(merge)),
          Object.keys(labels).length > 0 ? merge : { replace: {} },
        );
        assert.deepEqual(labelChangeOf(labels, updatePathsOf({ replace: labels })), { replace: labels });
      }),
    );
  });
});

describe("checkLabels", () => {
  test("leaves out labels without a value", () => {
    assert.deepEqual(checkLabels({ a: "", b: "2" }), { b: "2" });
  });

  test("takes a label over the 4096 bytes of containerd's own store", () => {
    const labels = { a: "x".repeat(60_000) };
    assert.deepEqual(checkLabels(labels), labels);
  });

  test("refuses a label over 64 KiB, counted in bytes, and names it", () => {
    assert.throws(
      () => checkLabels({ long: "é".repeat(33_000) }),
      (error) => error instanceof InvalidArgumentError && /"long": it has 66004 bytes/.test(error.message),
    );
  });

  test("refuses labels over 256 KiB together", () => {
    const labels = Object.fromEntries(
      Array.from({ length: 5 }, (_, index) => [`k${index}`, "x".repeat(60_000)]),
    );
    assert.throws(() => checkLabels(labels), InvalidArgumentError);
  });
});
