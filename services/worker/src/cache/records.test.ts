import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { NotFoundError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { inTransaction } from "./database.ts";
import type { CacheRecords } from "./records.ts";
import { sampleCache, sampleInfo, sampleRecord } from "./sample-cache.ts";

const blob = digestOf("a layer");

function removableIDs(records: CacheRecords): string[] {
  return records
    .list()
    .map(({ id }) => id)
    .filter((id) => records.removable(id) !== undefined);
}

function usedIDs(records: CacheRecords): string[] {
  return records
    .list()
    .filter(({ inUse }) => inUse)
    .map(({ id }) => id);
}

describe("the records of the cache", () => {
  test("are kept over a restart, with everything that is known of them", async () => {
    await using sample = await sampleCache();
    let before: unknown;
    {
      using cache = sample.open();
      using lease = cache.records.lease();
      cache.records.add(sampleRecord("base", { blobs: [blob] }), lease);
      cache.records.add(sampleRecord("mount", { type: "exec.cachemount", mutable: true }), lease);
      cache.records.add(sampleRecord("result", { parents: ["base"] }), lease);
      cache.records.setSize("base", 4096);
      lease[Symbol.dispose]();
      before = cache.records.list();
    }
    using again = sample.open();
    const byID = (records: CacheRecords) => records.list().sort((a, b) => a.id.localeCompare(b.id));
    assert.deepEqual(byID(again.records), before);
    assert.deepEqual(
      byID(again.records).map(({ sizeBytes, useCount, usedAtMs }) => [
        sizeBytes,
        useCount,
        usedAtMs === undefined,
      ]),
      [
        [4096, 1, false],
        [undefined, 1, false],
        [undefined, 1, false],
      ],
    );
  });

  test("have their uses written when that can be done again, and nothing ends before", async (context) => {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    await using sample = await sampleCache();
    const told: unknown[] = [];
    {
      using cache = sample.open((error) => told.push(error));
      using lease = cache.records.lease();
      cache.records.add(sampleRecord("base"), lease);
      lease[Symbol.dispose]();
      using other = new DatabaseSync(sample.path);
      other.exec("BEGIN IMMEDIATE");
      context.mock.timers.tick(1000);
      assert.equal(told.length, 1);
      assert.match(String(told[0]), /database is locked/);
      other.exec("COMMIT");
      context.mock.timers.tick(1000);
      assert.equal(told.length, 1);
      assert.equal(other.prepare("SELECT use_count FROM records").get()?.["use_count"], 1);
    }
  });

  test("say why a change failed that the database has taken back itself", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const twice = () =>
      inTransaction(cache.database, () => {
        cache.database.exec("INSERT OR ROLLBACK INTO record_blobs VALUES ('a', 'b'), ('a', 'b')");
      });
    assert.throws(twice, /UNIQUE constraint failed/);
    assert.equal(cache.database.isTransaction, false);
  });

  test("go only when nothing holds them and nothing stands on them, and then one after the other", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records } = cache;
    const lease = records.lease();
    records.add(sampleRecord("base"), lease);
    records.add(sampleRecord("middle", { parents: ["base"] }), lease);
    records.add(sampleRecord("top", { parents: ["middle"] }), lease);
    assert.deepEqual(removableIDs(records), []);
    lease[Symbol.dispose]();
    assert.deepEqual(removableIDs(records), ["top"]);
    assert.equal(await records.remove("middle", refuse), undefined);
    assert.deepEqual(await records.remove("top", () => Promise.resolve()), []);
    assert.deepEqual(removableIDs(records), ["middle"]);
    using holding = records.lease();
    assert(await holding.hold("middle"));
    assert.equal(await records.remove("middle", refuse), undefined);
    assert.deepEqual(usedIDs(records), ["base", "middle"]);
  });

  test("stay when their snapshot cannot be removed, and nobody gets one that is being removed", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records } = cache;
    records.restore(sampleRecord("record"), 0);
    const failing = Promise.withResolvers<void>();
    const removal = records.remove("record", () => failing.promise);
    using lease = records.lease();
    const held = lease.hold("record");
    assert.deepEqual(removableIDs(records), []);
    failing.reject(new Error("busy"));
    await assert.rejects(removal, /busy/);
    assert.equal(await held, true);
    lease[Symbol.dispose]();

    const going = Promise.withResolvers<void>();
    const second = records.remove("record", () => going.promise);
    using late = records.lease();
    const refused = late.hold("record");
    assert.throws(() => records.begin(sampleRecord("work", { parents: ["record"] })), NotFoundError);
    going.resolve();
    await second;
    assert.equal(await refused, false);
    assert.equal(records.has("record"), false);
  });

  test("work on a snapshot keeps what it stands on, and is shown while it goes on", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records } = cache;
    records.restore(sampleRecord("base"), 0);
    {
      using _work = records.begin(sampleRecord("work", { parents: ["base"], mutable: true }));
      assert.deepEqual(usedIDs(records), ["base", "work"]);
      assert.deepEqual(removableIDs(records), []);
    }
    assert.deepEqual(usedIDs(records), []);
    assert.deepEqual(removableIDs(records), ["base"]);
    using again = sample.open();
    assert.equal(again.records.has("work"), false);
  });

  test("a use counts for the record, and is noted for what it stands on", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records } = cache;
    records.restore(sampleRecord("base"), 0);
    records.restore(sampleRecord("top", { parents: ["base"] }), 0);
    records.restore(sampleRecord("mount", { mutable: true }), 0);
    records.setSize("mount", 100);
    for (const id of ["top", "top", "mount"]) {
      using lease = records.lease();
      assert(await lease.hold(id));
    }
    const [base, top, mount] = records.list();
    assert.deepEqual([base?.useCount, top?.useCount], [0, 2]);
    assert.equal(base?.usedAtMs, top?.usedAtMs);
    assert.equal(mount?.sizeBytes, undefined, "what has been written to must be measured again");
  });

  test("blobs are needed as long as a record or a lease needs them", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records } = cache;
    records.restore(sampleRecord("one", { blobs: [blob] }), 0);
    records.restore(sampleRecord("two", { blobs: [blob] }), 0);
    assert.deepEqual(await records.remove("one", () => Promise.resolve()), []);
    using lease = records.lease();
    lease.holdBlob(blob);
    assert.deepEqual(await records.remove("two", () => Promise.resolve()), []);
    assert(records.needsBlob(blob));
    lease[Symbol.dispose]();
    assert(!records.needsBlob(blob));
    records.restore(sampleRecord("three"), 0);
    records.addBlobs("three", [blob]);
    assert.deepEqual(await records.remove("three", () => Promise.resolve()), [blob]);
  });

  test("a result goes with the first of its records", async () => {
    await using sample = await sampleCache();
    using cache = sample.open();
    const { records, results } = cache;
    const key = digestOf("key");
    for (const name of ["one", "two"]) {
      records.restore(sampleRecord(name), 0);
      sample.snapshots.set(name, sampleInfo(name));
    }
    results.save(key, [{ snapshot: "one" }, undefined, { snapshot: "two" }], "a step");
    assert(results.leadTo("one"));
    using lease = records.lease();
    const signal = new AbortController().signal;
    assert.deepEqual(await results.load(key, lease, signal), [
      { snapshot: "one" },
      undefined,
      { snapshot: "two" },
    ]);
    assert.deepEqual(removableIDs(records), []);
    lease[Symbol.dispose]();
    await records.remove("two", () => Promise.resolve());
    using other = records.lease();
    assert.equal(await results.load(key, other, signal), undefined);
    assert(!results.leadTo("one"));
  });
});

function refuse(): Promise<void> {
  assert.fail("nothing may be removed");
}
