import assert from "node:assert/strict";
import { mkdtempDisposable, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { readTreeRecord, TreeRecords } from "./tree-records.ts";

const record = { layerNumber: 7, metaPath: "/meta.erofs", metaDigest: "sha256:1" };

describe("TreeRecords", () => {
  test("are there for the thread that serves, and for the next process", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    const path = join(directory.path, "shown");
    const records = new TreeRecords(path);
    assert.deepEqual(records.targets, []);
    const number = records.add({ ...record, target: "/one" });
    assert.deepEqual(readTreeRecord(path, number), { ...record, target: "/one" });
    assert.deepEqual(new TreeRecords(path).targets, ["/one"]);
    records.remove("/one");
    records.remove("/one");
    assert.equal(readTreeRecord(path, number), undefined);
    assert.deepEqual(new TreeRecords(path).targets, []);
  });

  test("never use a number again, not even when all are gone, or one that was to be kept was lost", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    const first = new TreeRecords(directory.path);
    assert.equal(first.add({ ...record, target: "/one" }), 1);
    first.remove("/one");
    const second = new TreeRecords(directory.path);
    assert.equal(second.add({ ...record, target: "/two" }), 2);
    await rm(join(directory.path, "next"));
    assert.equal(new TreeRecords(directory.path).add({ ...record, target: "/three" }), 3);
  });
});
