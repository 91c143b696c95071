import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { pino } from "pino";
import type { GcPolicy } from "./gc-policy.ts";
import { Pruner } from "./prune.ts";
import type { NewRecord } from "./record.ts";
import { RemovalLog } from "./removal-log.ts";
import { byLeastMissed } from "./removal-order.ts";
import { sampleCache, sampleRecord } from "./sample-cache.ts";
import { CacheUsage } from "./usage.ts";

interface Given extends Partial<NewRecord> {
  readonly sizeBytes?: number;
  /** How often it was used. */
  readonly uses?: number;
}

/** A cache with such records, made in this order, and what removes from it. */
async function fixture(given: Readonly<Record<string, Given>>, freeBytes = 0) {
  await using undo = new AsyncDisposableStack();
  const sample = undo.use(await sampleCache());
  const { database, records } = undo.use(sample.open());
  const sizes = new Map<string, number>();
  const snapshots = new Set<string>();
  const blobs: string[] = [];
  let clockMs = 1;
  for (const [id, { sizeBytes = 10, uses = 0, ...record }] of Object.entries(given)) {
    records.restore(sampleRecord(id, record), clockMs);
    clockMs += 1;
    sizes.set(id, sizeBytes);
    snapshots.add(id);
    for (let use = 0; use < uses; use += 1) {
      using lease = records.lease();
      assert(await lease.hold(id));
    }
  }
  const content = {
    info: () => Promise.resolve(undefined),
    delete: (digest: string) => {
      blobs.push(digest);
      return Promise.resolve();
    },
  };
  const snapshotter = {
    usage: (id: string) => Promise.resolve({ inodes: 1n, sizeBytes: BigInt(sizes.get(id) ?? 0) }),
    remove: (id: string) =>
      snapshots.delete(id) ? Promise.resolve() : Promise.reject(new NotFoundError(`${id}: not found`)),
  };
  const usage = new CacheUsage({ records, snapshotter, content });
  const removals = new RemovalLog(database);
  const log = pino({ enabled: false });
  const parts = {
    records,
    usage,
    removals,
    snapshotter,
    content,
    freeBytes: () => Promise.resolve(freeBytes),
    log,
  };
  const pruner = new Pruner(parts);
  const apply = async (limits: Partial<GcPolicy>, signal = new AbortController().signal) => {
    const none = { reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 };
    const policy = { all: false, filters: [], keepDurationMs: 0, ...none, ...limits };
    const removed = await Array.fromAsync(pruner.apply(policy, { by: "gc", rule: 3 }, signal));
    return removed.map(({ id }) => id);
  };
  const owned = undo.move();
  return {
    records,
    snapshots,
    snapshotter,
    blobs,
    removals,
    apply,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe("a policy", () => {
  test("without limits removes all that it covers, from the top of each stack downwards", async () => {
    await using cache = await fixture({
      base: {},
      other: {},
      middle: { parents: ["base"] },
      top: { parents: ["middle"] },
    });
    assert.deepEqual(await cache.apply({}), ["other", "top", "middle", "base"]);
    assert.deepEqual([...cache.snapshots], []);
    assert.deepEqual(cache.records.list(), []);
  });

  test("leaves what is held, what that stands on, and what is internal unless it covers all", async () => {
    const given = {
      base: {},
      held: { parents: ["base"] },
      free: { parents: ["base"] },
      internal: { type: "internal" },
      frontend: { type: "frontend" },
    } as const;
    await using cache = await fixture(given);
    using lease = cache.records.lease();
    await lease.hold("held");
    assert.deepEqual(await cache.apply({}), ["free"]);
    assert.deepEqual(await cache.apply({ all: true }), ["internal", "frontend"]);
    assert.deepEqual([...cache.snapshots], ["base", "held"]);
  });

  test("covers what one of its filters matches", async () => {
    const given = {
      mount: { type: "exec.cachemount", mutable: true },
      source: { type: "source.local", mutable: true },
      step: { description: "mount / from exec make" },
      child: { parents: ["step"] },
    } as const;
    await using cache = await fixture(given);
    assert.deepEqual(await cache.apply({ filters: ["type==source.local", "immutable,parents==step"] }), [
      "source",
      "child",
    ]);
    assert.deepEqual(await cache.apply({ filters: ["shared", "inuse"] }), []);
    assert.deepEqual(await cache.apply({ filters: ["description~=make,private"] }), ["step"]);
    await assert.rejects(cache.apply({ filters: ["type=="] }), (error) => {
      assert(error instanceof InvalidArgumentError);
      assert.match(error.message, /^failed to parse prune filters \[type==\]: /);
      return true;
    });
    assert.deepEqual([...cache.snapshots], ["mount"]);
  });

  test("leaves what was used within its time, and what was never used is not protected by it", async () => {
    await using cache = await fixture({ used: { uses: 1 }, unused: {} });
    assert.deepEqual(await cache.apply({ keepDurationMs: 3_600_000 }), ["unused"]);
  });

  test("with a limit removes the least missed until no more is left than is kept", async () => {
    await using cache = await fixture({
      // In this order, so that what is used more is never used earlier: it would be a tie, or not, as the clock ticks.
      once: { uses: 1 },
      often: { uses: 3 },
      never: {},
      base: { sizeBytes: 100 },
      top: { parents: ["base"] },
    });
    assert.deepEqual(await cache.apply({ reservedBytes: 140 }), []);
    assert.deepEqual(await cache.apply({ reservedBytes: 139 }), ["never"]);
    assert.deepEqual(await cache.apply({ maxUsedBytes: 25 }), ["top", "base"]);
    assert.deepEqual(await cache.apply({ maxUsedBytes: 15, reservedBytes: 30 }), []);
    assert.deepEqual(await cache.apply({ maxUsedBytes: 15 }), ["once"]);
    assert.deepEqual(await cache.apply({ maxUsedBytes: 1 }), ["often"]);
  });

  test("makes room on a disk that is too full", async () => {
    await using cache = await fixture({ a: { sizeBytes: 30 }, b: { sizeBytes: 30 } }, 50);
    assert.deepEqual(await cache.apply({ minFreeBytes: 50 }), []);
    assert.deepEqual(await cache.apply({ minFreeBytes: 60 }), ["a"]);
  });

  test("removes by age what was never used: upstream divides zero by zero there, and has no order", async () => {
    const given = Object.fromEntries(["c", "a", "b", "e", "d"].map((id) => [id, {}]));
    await using cache = await fixture(given);
    assert.deepEqual(await cache.apply({ reservedBytes: 10 }), ["c", "a", "b", "e"]);
    const ranked = byLeastMissed([
      { ...sampleRecord("x"), createdAtMs: 2, usedAtMs: undefined, useCount: 0, sizeBytes: 0 },
      { ...sampleRecord("y"), createdAtMs: 1, usedAtMs: undefined, useCount: 0, sizeBytes: 0 },
      { ...sampleRecord("w"), createdAtMs: 2, usedAtMs: undefined, useCount: 0, sizeBytes: 0 },
    ]);
    assert.deepEqual(
      ranked.map(({ id }) => id),
      ["y", "w", "x"],
    );
  });

  test("removes blobs with the last record that needs them", async () => {
    const blob = digestOf("layer");
    await using cache = await fixture({ one: { blobs: [blob] }, two: { blobs: [blob] } });
    await cache.apply({ filters: ["id==one"] });
    assert.deepEqual(cache.blobs, []);
    await cache.apply({});
    assert.deepEqual(cache.blobs, [blob]);
  });

  test("says of each removal which rule it was and why", async () => {
    await using cache = await fixture({ a: { sizeBytes: 7, type: "exec.cachemount" } });
    await cache.apply({ filters: ["type==exec.cachemount"], keepDurationMs: 7_200_000 });
    const [{ removedAtMs, ...removal } = { removedAtMs: 0 }] = cache.removals.latest(10);
    assert(removedAtMs > 0);
    assert.deepEqual(removal, {
      id: "a",
      type: "exec.cachemount",
      description: "made a",
      sizeBytes: 7,
      by: "gc",
      rule: 3,
      why: "it is one of type==exec.cachemount, it was not used for 2 h, it keeps nothing that it covers",
    });
  });

  test("goes on with the others when a snapshot cannot be removed, and keeps that record", async () => {
    await using cache = await fixture({ stuck: {}, free: {} });
    const { remove } = cache.snapshotter;
    cache.snapshotter.remove = (id) =>
      id === "stuck" ? Promise.reject(new FailedPreconditionError("it has children")) : remove(id);
    assert.deepEqual(await cache.apply({}), ["free"]);
    assert.equal(cache.records.removable("stuck")?.id, "stuck");
  });

  test("removes each record once when several are applied at the same time, and ends when it is told to", async () => {
    const given = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`r${index}`, {}]));
    await using cache = await fixture(given);
    const removed = await Promise.all([cache.apply({}), cache.apply({}), cache.apply({ maxUsedBytes: 1 })]);
    assert.equal(removed.flat().length, 50);
    assert.deepEqual(cache.records.list(), []);
    await using other = await fixture(given);
    await assert.rejects(other.apply({}, AbortSignal.abort(new Error("enough"))), /enough/);
    assert.equal(other.snapshots.size, 50);
  });
});
