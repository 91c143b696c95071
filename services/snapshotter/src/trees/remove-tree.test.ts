import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { mknod, S_IFCHR, S_IFIFO } from "@oci-worker/libc/file";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { removeTree } from "./remove-tree.ts";

const ignore = () => undefined;

async function withDirectory(use: (parent: string, tree: string) => Promise<void> | void): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "remove-tree-"));
  const tree = join(directory.path, "tree");
  mkdirSync(tree);
  await use(directory.path, tree);
}

describe("removeTree", () => {
  test("deletes whatever can be in a tree, and nothing that links in it lead to", () =>
    withDirectory((parent, tree) => {
      mkdirSync(join(parent, "kept"));
      writeFileSync(join(parent, "kept/file"), "");
      mkdirSync(join(tree, "a/b"), { recursive: true });
      symlinkSync("../kept", join(tree, "link"));
      linkSync(join(parent, "kept/file"), join(tree, "a/hard link"));
      mknod(join(tree, "a/whiteout"), S_IFCHR, 0n);
      mknod(join(tree, "a/fifo"), S_IFIFO, 0n);
      writeFileSync(Buffer.concat([Buffer.from(tree), Buffer.from([0x2f, 0xff, 0x0a])]), "no UTF-8");
      chmodSync(join(tree, "a/b"), 0);
      chmodSync(join(tree, "a"), 0);
      removeTree(tree, ignore);
      assert.deepEqual(readdirSync(parent), ["kept"]);
      assert.deepEqual(readdirSync(join(parent, "kept")), ["file"]);
    }));

  test("takes what is gone for deleted", () =>
    withDirectory((parent) => {
      removeTree(join(parent, "nothing"), ignore);
      assert.deepEqual(readdirSync(parent), ["tree"]);
    }));

  test("refuses what is no directory", () =>
    withDirectory((parent, tree) => {
      symlinkSync(tree, join(parent, "link"));
      assert.throws(() => removeTree(join(parent, "link"), ignore));
      assert.deepEqual(readdirSync(parent).sort(), ["link", "tree"]);
    }));

  test("deletes a tree that is deeper than any path can name", () =>
    withDirectory((parent, tree) => {
      // Built from the inside out, because no path leads to its end.
      for (let depth = 0; depth < 3000; depth += 1) {
        mkdirSync(join(parent, "outer"));
        const name = join(parent, "outer", "x".repeat(100));
        renameSync(tree, name);
        renameSync(join(parent, "outer"), tree);
      }
      removeTree(tree, ignore);
      assert.deepEqual(readdirSync(parent), []);
    }));

  test("stops at another file system, and what is on that stays", () =>
    withDirectory(async (_parent, tree) => {
      const mountPoint = join(tree, "mounted");
      mkdirSync(mountPoint);
      await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], mountPoint);
      try {
        writeFileSync(join(mountPoint, "precious"), "");
        assert.throws(() => removeTree(tree, ignore), FailedPreconditionError);
        assert(existsSync(join(mountPoint, "precious")));
      } finally {
        await unmount(mountPoint);
      }
      removeTree(tree, ignore);
      assert(!existsSync(tree));
    }));

  test("ends when it is told to, and can be taken up again", () =>
    withDirectory((_parent, tree) => {
      for (const name of ["a", "b", "c"]) {
        mkdirSync(join(tree, name));
      }
      let directories = 0;
      const stop = new Error("stopped");
      assert.throws(() => {
        removeTree(tree, () => {
          directories += 1;
          if (directories === 3) {
            throw stop;
          }
        });
      }, stop);
      assert.equal(readdirSync(tree).length, 2);
      removeTree(tree, ignore);
      assert(!existsSync(tree));
    }));
});
