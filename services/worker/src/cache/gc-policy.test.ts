import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { bytesToKeep, type GcPolicy, gcPolicies } from "./gc-policy.ts";

const disk = 1000 * 2 ** 30;
const gb = 1e9;
const day = 24 * 3_600_000;
const easy = ["type==source.local", "type==exec.cachemount", "type==source.git.checkout"];

function policy(more: Partial<GcPolicy> = {}): GcPolicy {
  const limits = { reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 };
  return { all: false, filters: [], keepDurationMs: 0, ...limits, ...more };
}

describe("the rules of garbage collection", () => {
  test("are those of BuildKit since v0.17 if nothing is said", () => {
    const spaces = { reservedBytes: 10 * gb, maxUsedBytes: 100 * gb, minFreeBytes: 201 * gb };
    assert.deepEqual(gcPolicies({ gc: true }, disk), [
      policy({ filters: easy, keepDurationMs: 2 * day, maxUsedBytes: 512e6 }),
      policy({ keepDurationMs: 60 * day, ...spaces }),
      policy(spaces),
      policy({ all: true, ...spaces }),
    ]);
  });

  test("are those before v0.17 if only their one number is said, or 0 for a tenth of the disk", () => {
    const rules = (keep: number) => [
      policy({ filters: easy, keepDurationMs: 2 * day, reservedBytes: 512e6 }),
      policy({ keepDurationMs: 60 * day, reservedBytes: keep }),
      policy({ reservedBytes: keep }),
      policy({ all: true, reservedBytes: keep }),
    ];
    const keeping = (bytes: number) => ({ gc: true, gcKeepStorage: { reservedSpace: { bytes } } });
    assert.deepEqual(gcPolicies(keeping(5 * gb), disk), rules(5 * gb));
    assert.deepEqual(gcPolicies(keeping(0), disk), rules(101 * gb));
    assert.deepEqual(gcPolicies(keeping(0), undefined), rules(2 * gb));
  });

  test("have each of the first rule's types by itself: upstream joined them with commas, and nothing is of three types", () => {
    for (const settings of [{ gc: true }, { gc: true, gcKeepStorage: { reservedSpace: { bytes: gb } } }]) {
      const [first] = gcPolicies(settings, disk);
      assert.deepEqual(first?.filters, easy);
    }
  });

  test("take what is said in place of all three limits, percentages of the disk rounded as upstream rounds them", () => {
    const [, , third] = gcPolicies({ gc: true, maxUsedSpace: { percent: 50 } }, disk);
    assert.deepEqual(third, policy({ maxUsedBytes: 501 * gb }));
    const former = { reservedSpace: { bytes: 1 }, minFreeSpace: { bytes: 2 }, maxUsedSpace: { bytes: 3 } };
    const [, , fromFormer] = gcPolicies({ gc: true, gcKeepStorage: former }, disk);
    assert.deepEqual(fromFormer, policy({ reservedBytes: 1, minFreeBytes: 2, maxUsedBytes: 3 }));
    const both = { gc: true, gcKeepStorage: former, maxUsedSpace: { bytes: 30 } };
    assert.deepEqual(
      gcPolicies(both, disk)[2],
      policy({ reservedBytes: 1, minFreeBytes: 2, maxUsedBytes: 30 }),
    );
    const unknown = gcPolicies({ gc: true, minFreeSpace: { percent: 5 } }, undefined);
    assert.equal(unknown[2]?.minFreeBytes, 2 * gb);
  });

  test("are the operator's own if there are any, and none at all without garbage collection", () => {
    const rule = {
      all: true,
      filters: ["type==regular"],
      keepDuration: 1000,
      reservedSpace: { bytes: 5 },
      minFreeSpace: { percent: 1 },
    };
    assert.deepEqual(gcPolicies({ gc: true, gcPolicies: [rule, {}] }, disk), [
      policy({
        all: true,
        filters: ["type==regular"],
        keepDurationMs: 1000,
        reservedBytes: 5,
        minFreeBytes: 11 * gb,
      }),
      policy(),
    ]);
    assert.deepEqual(gcPolicies({ gc: false, gcPolicies: [rule] }, disk), []);
  });
});

describe("what a policy keeps", () => {
  const kept = (limits: Partial<GcPolicy>, used: number, free: number) =>
    bytesToKeep(policy(limits), used, free).bytes;

  test("is nothing without limits, and the one number where there is only one", () => {
    assert.equal(kept({}, 50, 50), 0);
    assert.equal(kept({ reservedBytes: 20 }, 50, 50), 20);
    assert.equal(kept({ maxUsedBytes: 30 }, 50, 50), 30);
  });

  test("is everything while the disk is free enough, if nothing else is said", () => {
    assert.equal(kept({ minFreeBytes: 40 }, 50, 50), Number.POSITIVE_INFINITY);
    assert.equal(kept({ minFreeBytes: 40, reservedBytes: 10 }, 50, 50), Number.POSITIVE_INFINITY);
    assert.equal(kept({ minFreeBytes: 60 }, 50, 50), 40);
  });

  test("is less where the disk is too full, but never less than is reserved", () => {
    const limits = { reservedBytes: 10, maxUsedBytes: 45, minFreeBytes: 20 };
    assert.equal(kept(limits, 50, 30), 45);
    assert.equal(kept(limits, 50, 15), 45);
    assert.equal(kept(limits, 50, 5), 35);
    assert.equal(kept(limits, 20, 0), 10);
    assert.equal(kept({ minFreeBytes: 100 }, 50, 0), 0);
  });

  test("is said with the limit that it comes from", () => {
    assert.match(bytesToKeep(policy({ maxUsedBytes: 2 * gb }), 0, 0).limit, /at most 2\.00 GB/);
    assert.match(
      bytesToKeep(policy({ minFreeBytes: 2 * gb }), 5 * gb, gb).limit,
      /2\.00 GB .* free, 1\.00 GB are/,
    );
    assert.match(bytesToKeep(policy(), 0, 0).limit, /keeps nothing/);
  });
});
