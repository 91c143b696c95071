import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { digestOf } from "@oci-worker/oci/digest";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import { reconcile } from "./recovery.ts";
import { sampleCache, sampleInfo, sampleRecord } from "./sample-cache.ts";

const bottom = digestOf("bottom");
const top = digestOf("top");

/** Two at a time, in the order in which they are told. */
async function* pagesOf(infos: readonly Info[]): AsyncGenerator<Info[]> {
  for (let index = 0; index < infos.length; index += 2) {
    yield infos.slice(index, index + 2);
  }
}

describe("a start after a kill", () => {
  test("keeps layers and results that were committed but not noted yet, with what they stand on", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records } = cache;
    const infos = [
      sampleInfo("result-noted", { parent: "result-beneath" }),
      sampleInfo("result-beneath", { parent: top }),
      sampleInfo(top, { parent: bottom }),
      sampleInfo(bottom),
      sampleInfo("result-lost", { parent: top }),
      sampleInfo("work-1", { kind: "active", parent: top }),
      sampleInfo("view-1", { kind: "view", parent: top }),
    ];
    const isResult = (name: string) => name === "result-noted";
    const { leftovers, restored, forgotten } = await reconcile(records, isResult, pagesOf(infos));
    assert.deepEqual(leftovers, ["result-lost", "work-1", "view-1"]);
    assert.deepEqual([restored, forgotten], [4, 0]);
    const parents = Object.fromEntries(records.list().map(({ id, parents }) => [id, parents]));
    assert.deepEqual(parents, {
      [bottom]: [],
      [top]: [bottom],
      "result-beneath": [top],
      "result-noted": ["result-beneath"],
    });
    assert.equal(records.removable(top), undefined);
    assert.equal(records.removable("result-noted")?.id, "result-noted");
  });

  test("forgets records whose snapshot has gone or is of another kind, and keeps cache mounts", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records } = cache;
    records.restore(sampleRecord("gone"), 0);
    records.restore(sampleRecord("changed"), 0);
    records.restore(sampleRecord("mount", { type: "exec.cachemount", mutable: true }), 0);
    const infos = [sampleInfo("changed", { kind: "active" }), sampleInfo("mount", { kind: "active" })];
    const { leftovers, forgotten } = await reconcile(records, () => false, pagesOf(infos));
    assert.deepEqual(leftovers, ["changed"]);
    assert.equal(forgotten, 2);
    assert.deepEqual(
      records.list().map(({ id }) => id),
      ["mount"],
    );
  });
});
