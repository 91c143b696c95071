import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import fc from "fast-check";
import { forestOf } from "./forest.ts";

let made = 0n;

function info(name: string, parent?: string): Info {
  made += 1n;
  return { name, parent, kind: "committed", labels: {}, createdAtNs: made, updatedAtNs: made };
}

/** Each as its name, after a sign for each level: `+` where more follow. */
function drawn(infos: readonly Info[], top?: string): string[] {
  return forestOf(infos, top).map(
    ({ info: { name }, more }) => `${more.map((follow) => (follow ? "+" : ".")).join("")}${name}`,
  );
}

describe("forestOf", () => {
  const base = info("base");
  const left = info("left", "base");
  const right = info("right", "base");
  const leaf = info("leaf", "left");

  test("has each snapshot beneath its parent, the older one first", () => {
    assert.deepEqual(drawn([right, leaf, left, base]), ["base", "+left", "+.leaf", ".right"]);
  });

  test("has those above one snapshot only", () => {
    assert.deepEqual(drawn([base, left, right, leaf], "left"), ["left", ".leaf"]);
  });

  test("takes for a root what stands on one that is not there", () => {
    assert.deepEqual(drawn([left, leaf, info("alone", "gone")]), ["left", ".leaf", "alone"]);
  });

  test("is as deep as a chain is", () => {
    const chain = Array.from({ length: 20_000 }, (_, at) =>
      info(`${at}`, at === 0 ? undefined : `${at - 1}`),
    );
    assert.equal(forestOf(chain).at(-1)?.more.length, 19_999);
  });

  test("tells of each snapshot once, whatever the parents are", () => {
    const name = fc.integer({ min: 0, max: 9 }).map(String);
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, fc.option(name)), { selector: ([own]) => own }), (pairs) => {
        const infos = pairs.map(([own, parent]) => info(own, parent ?? undefined));
        const names = forestOf(infos).map((placed) => placed.info.name);
        assert.deepEqual(names.sort(), pairs.map(([own]) => own).sort());
      }),
    );
  });
});
