import assert from "node:assert/strict";
import { appendFile, mkdtempDisposable, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { DataLossError } from "@oci-worker/errdefs";
import { errno } from "@oci-worker/fuse/errno";
import { later } from "@oci-worker/fuse/file-system";
import { layerOnDisk } from "../kernel/sample-mounts.ts";
import { TreeRecords } from "../kernel/tree-records.ts";
import { LayerTrees } from "./layer-trees.ts";
import type { MissedRead } from "./missed-read.ts";
import { shareLayer } from "./shared-layer.ts";

const content = Buffer.from("content of a file");

/** A layer on disk with one file, and a tree that shows it. */
async function open() {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "layer-trees-")));
  const layer = await layerOnDisk(path, 5, [{ type: "file", name: "file", content }]);
  const { number: layerNumber, metaPath, metaDigest, dataPath } = layer;
  const records = new TreeRecords(join(path, "shown"));
  const tree = records.add({ layerNumber, metaPath, metaDigest, target: "/target" });
  const shared = shareLayer(
    {
      number: layerNumber,
      dataPath,
      deviceBytes: layer.dataBlocks * 4096,
      clock: new Float64Array(new SharedArrayBuffer(8)),
    },
    [{ start: 0, sizeBytes: content.length }],
  );
  const missed: MissedRead[] = [];
  const damaged: number[] = [];
  const trees = new LayerTrees(records.path, {
    onMiss: (read) => missed.push(read),
    onDamaged: (number) => damaged.push(number),
  });
  const owned = undo.move();
  return {
    layer,
    records,
    tree,
    shared,
    missed,
    damaged,
    trees,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe("LayerTrees", () => {
  test("read what has been checked, ask for what has not, and fail without the layer", async () => {
    await using scene = await open();
    const { trees, shared, missed } = scene;
    const tree = trees.find(scene.tree);
    assert(tree);
    const reply = Buffer.alloc(100);
    assert.equal(tree.read(0, 17, reply, 3, 1n), -errno.EIO);
    trees.add(shared);
    assert.equal(tree.read(0, 17, reply, 3, 2n), later);
    assert.deepEqual(missed, [{ layer: 5, offset: 0, size: 17, unique: 2n }]);
    Atomics.or(shared.verified, 0, 1);
    assert.equal(tree.read(0, 17, reply, 3, 3n), 17);
    assert.deepEqual(reply.subarray(3, 20), content);
    trees.remove(5);
    assert.equal(tree.read(0, 17, reply, 3, 4n), -errno.EIO);
  });

  test("are found by their numbers as long as they are noted", async () => {
    await using scene = await open();
    assert.equal(scene.trees.find(scene.tree + 1), undefined);
    const { layer, records } = scene;
    const { number: layerNumber, metaPath, metaDigest } = layer;
    const other = records.add({ layerNumber, metaPath, metaDigest, target: "/other" });
    assert.equal(scene.trees.find(other)?.image, scene.trees.find(scene.tree)?.image);
    records.remove("/target");
    scene.trees.remove(layerNumber);
    assert.equal(scene.trees.find(scene.tree), undefined);
  });

  test("show no image that is not the one that was made", async () => {
    await using scene = await open();
    const { trees, tree, layer, damaged } = scene;
    const image = await readFile(layer.metaPath);
    await appendFile(layer.metaPath, "x");
    assert.throws(() => trees.find(tree), DataLossError);
    await rm(layer.metaPath);
    assert.throws(() => trees.find(tree), DataLossError);
    // Once, however often the kernel asks.
    assert.deepEqual(damaged, [layer.number]);
    await writeFile(layer.metaPath, image);
    assert(trees.find(tree));
  });
});
