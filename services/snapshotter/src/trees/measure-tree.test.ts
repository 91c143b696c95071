import assert from "node:assert/strict";
import { linkSync, lstatSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { mknod, S_IFCHR } from "@oci-worker/libc/file";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { measureTree } from "./measure-tree.ts";

const whole = { maxEntries: Number.POSITIVE_INFINITY, onDirectory: () => undefined };

async function withTree(use: (tree: string) => Promise<void> | void): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "measure-tree-"));
  await use(directory.path);
}

describe("measureTree", () => {
  test("counts each inode once, and the blocks that it has and not its length", () =>
    withTree((tree) => {
      mkdirSync(join(tree, "directory"));
      writeFileSync(join(tree, "file"), Buffer.alloc(10_000, 1));
      linkSync(join(tree, "file"), join(tree, "directory/linked"));
      writeFileSync(join(tree, "sparse"), "");
      truncateSync(join(tree, "sparse"), 1_000_000_000);
      symlinkSync("/etc", join(tree, "link"));
      mknod(join(tree, "whiteout"), S_IFCHR, 0n);
      const names = ["", "directory", "file", "sparse", "link", "whiteout"];
      const blocks = names.reduce((sum, name) => sum + lstatSync(join(tree, name)).blocks, 0);
      assert.deepEqual(measureTree(tree, whole), { inodes: 6n, sizeBytes: BigInt(blocks * 512) });
    }));

  test("counts a file once that has other names elsewhere", () =>
    withTree((tree) => {
      mkdirSync(join(tree, "inside"));
      writeFileSync(join(tree, "outside"), "");
      linkSync(join(tree, "outside"), join(tree, "inside/linked"));
      assert.equal(measureTree(join(tree, "inside"), whole)?.inodes, 2n);
    }));

  test("enters nothing that is mounted in the tree", () =>
    withTree(async (tree) => {
      mkdirSync(join(tree, "mounted"));
      await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], join(tree, "mounted"));
      try {
        writeFileSync(join(tree, "mounted/file"), Buffer.alloc(100_000));
        assert.equal(measureTree(tree, whole)?.inodes, 1n);
      } finally {
        await unmount(join(tree, "mounted"));
      }
    }));

  test("gives up a tree with more entries than it may take", () =>
    withTree((tree) => {
      for (const name of ["a", "b", "c"]) {
        writeFileSync(join(tree, name), "");
      }
      assert.equal(measureTree(tree, { ...whole, maxEntries: 2 }), undefined);
      assert.equal(measureTree(tree, { ...whole, maxEntries: 3 })?.inodes, 4n);
    }));

  test("fails for what is not there", () =>
    withTree((tree) => {
      assert.throws(() => measureTree(join(tree, "nothing"), whole), { code: "ENOENT" });
    }));
});
