import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import fc from "fast-check";
import { Priorities, parseRecord } from "./record.ts";

const image = digestOf("image");
const other = digestOf("other");

describe("parseRecord", () => {
  test("takes paths and JSON, in their order, each once", () => {
    const text = [
      "/bin/sh",
      "",
      JSON.stringify({ path: "etc/hosts", manifestDigest: image, layerIndex: 1 }),
      "usr/with space\r",
      "/bin/sh",
      JSON.stringify({ path: "etc/hosts", layerIndex: 1 }),
    ].join("\n");
    assert.deepEqual(parseRecord(text), [
      { path: "bin/sh", layer: undefined },
      { path: "etc/hosts", layer: { manifestDigest: image, index: 1 } },
      { path: "usr/with space", layer: undefined },
      { path: "etc/hosts", layer: undefined },
    ]);
  });

  const refused: [line: string, why: RegExp][] = [
    ['{"path"', /line 2: it is no JSON/],
    ["../etc/passwd", /line 2: Cannot use .* as a name/],
    ["{}", /line 2: it has no path/],
    ['{"path":"a","manifestDigest":"x","layerIndex":0}', /line 2: its manifestDigest is no digest/],
    [`{"path":"a","manifestDigest":"${image}","layerIndex":-1}`, /line 2: its layerIndex is no whole number/],
  ];
  for (const [line, why] of refused) {
    test(`refuses ${line}`, () => {
      assert.throws(() => parseRecord(`a\n${line}`), why);
    });
  }

  test("has no other errors, whatever it is given", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json().map((json) => `{${json}`),
          fc.json(),
        ),
        (text) => {
          try {
            parseRecord(text);
          } catch (error) {
            assert(error instanceof InvalidArgumentError);
          }
        },
      ),
    );
  });
});

describe("the priorities of a layer", () => {
  test("are what the layers above it have not got", () => {
    const priorities = new Priorities(parseRecord("c\na\nb\nd"), image, 2);
    assert.deepEqual(priorities.for(1), ["c", "a", "b", "d"]);
    priorities.asked(1, ["c", "b", "d"]);
    assert.deepEqual(priorities.for(0), ["c", "b", "d"]);
    priorities.asked(0, ["d"]);
    assert.deepEqual(priorities.missing, ["d"]);
  });

  test("are those of its own, where the record tells layers of this image", () => {
    const entry = (path: string, manifestDigest: string, layerIndex: number) =>
      JSON.stringify({ path, manifestDigest, layerIndex });
    const text = [entry("a", image, 0), entry("b", other, 0), entry("c", image, 9)].join("\n");
    const priorities = new Priorities(parseRecord(text), image, 2);
    assert.deepEqual(priorities.for(1), ["b", "c"]);
    assert.deepEqual(priorities.for(0), ["a", "b", "c"]);
  });
});
