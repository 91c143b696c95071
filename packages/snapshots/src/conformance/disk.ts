import assert from "node:assert/strict";
import { link, lstat, mkdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NotFoundError } from "@oci-worker/errdefs";
import type { Mount } from "@oci-worker/mounts/mount";
import { type Check, commitLayer, fails, listed, mounted } from "./subject.ts";

/** What snapshots take up, and when that is given back. */
export const disk: Readonly<Record<string, Check>> = {
  "usage refuses a snapshot that does not exist": async ({ snapshotter }) => {
    await fails(snapshotter.usage("no such key"), NotFoundError, "no such key");
  },

  "usage of an empty snapshot is that of its top directory": async ({ snapshotter }) => {
    await snapshotter.prepare("key", undefined, {});
    const active = await snapshotter.usage("key");
    assert.equal(active.inodes, 1n);
    await snapshotter.commit("name", "key", {});
    assert.deepEqual(await snapshotter.usage("name"), active);
  },

  "usage counts blocks and distinct inodes, as they are at commit": async (subject) => {
    const { snapshotter } = subject;
    const mounts = await snapshotter.prepare("key", undefined, {});
    let blocks = 0;
    await mounted(subject, mounts, async (path) => {
      await mkdir(join(path, "directory"));
      await writeFile(join(path, "file"), Buffer.alloc(100_000, 1));
      await link(join(path, "file"), join(path, "directory", "same file"));
      const inodes = await Promise.all([".", "directory", "file"].map((name) => lstat(join(path, name))));
      blocks = inodes.reduce((sum, each) => sum + each.blocks, 0);
    });
    const expected = { inodes: 3n, sizeBytes: BigInt(blocks * 512) };
    assert.deepEqual(await snapshotter.usage("key"), expected);
    await snapshotter.commit("name", "key", {});
    assert.deepEqual(await snapshotter.usage("name"), expected);
  },

  "usage of a snapshot does not count its parents, unless it holds their content itself": async (subject) => {
    const { snapshotter, traits } = subject;
    await commitLayer(subject, "base", undefined, async (path) => {
      await writeFile(join(path, "large"), Buffer.alloc(1_000_000, 1));
    });
    await snapshotter.prepare("key", "base", {});
    const { inodes } = await snapshotter.usage("key");
    assert.equal(inodes, traits.holdsWholeTrees ? 2n : 1n);
  },

  "usage of a view is nothing": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    await snapshotter.view("view", "base", {});
    assert.deepEqual(await snapshotter.usage("view"), { inodes: 0n, sizeBytes: 0n });
  },

  "usage of a tree that is being changed leaves out what vanishes": async (subject) => {
    const { snapshotter } = subject;
    const mounts = await snapshotter.prepare("key", undefined, {});
    await mounted(subject, mounts, async (path) => {
      const churn = async () => {
        for (let round = 0; round < 20; round += 1) {
          const directory = join(path, `${round}`);
          await mkdir(directory);
          await Promise.all(
            Array.from({ length: 20 }, (_, index) => writeFile(join(directory, `${index}`), "")),
          );
          await rm(directory, { recursive: true });
        }
      };
      let done = false;
      const churned = churn().finally(() => {
        done = true;
      });
      while (!done) {
        assert((await snapshotter.usage("key")).inodes >= 1n);
      }
      await churned;
    });
  },

  "usage ends when its caller gives up, and holds up no change meanwhile": async (subject) => {
    const { snapshotter } = subject;
    const mounts = await snapshotter.prepare("key", undefined, {});
    await mounted(subject, mounts, async (path) => {
      for (let index = 0; index < 500; index += 1) {
        await mkdir(join(path, `${index}`));
      }
    });
    const controller = new AbortController();
    const given = snapshotter.usage("key", controller.signal);
    const others = Array.from({ length: 10 }, () => snapshotter.usage("key"));
    controller.abort(new Error("nobody waits"));
    await assert.rejects(given);
    const changes = ["one", "two", "three"].map((key) => snapshotter.prepare(key, undefined, {}));
    await Promise.all(changes);
    for (const { inodes } of await Promise.all(others)) {
      assert.equal(inodes, 501n);
    }
  },

  "after remove and cleanup nothing of a snapshot is on disk": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, async (path) => {
      await mkdir(join(path, "directory"));
      await writeFile(join(path, "directory", "file"), "");
    });
    const directories = new Set<string>();
    for (const [key, parent] of [
      ["active", "base"],
      ["alone", undefined],
    ] as const) {
      for (const directory of writableDirectories(await snapshotter.prepare(key, parent, {}))) {
        directories.add(directory);
      }
    }
    assert(directories.size >= 2);
    await Promise.all([...directories].map((directory) => stat(directory)));
    for (const key of ["active", "alone", "base"]) {
      await snapshotter.remove(key);
    }
    await snapshotter.cleanup();
    for (const directory of directories) {
      await assert.rejects(stat(directory), { code: "ENOENT" });
    }
    await snapshotter.cleanup();
  },

  "cleanup takes nothing of what is being made meanwhile": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, async (path) => writeFile(join(path, "file"), "content"));
    const keys = Array.from({ length: 40 }, (_, index) => `key ${index}`);
    const work = keys.map(async (key) => {
      await snapshotter.prepare(key, "base", {});
      await snapshotter.cleanup();
      await snapshotter.commit(`${key} committed`, key, {});
    });
    await Promise.all(work);
    await snapshotter.cleanup();
    assert.equal((await listed(snapshotter)).size, keys.length + 1);
    for (const key of keys) {
      const mounts = await snapshotter.prepare(key, `${key} committed`, {});
      await mounted(subject, mounts, async (path) => {
        assert.equal((await stat(join(path, "file"))).size, 7);
      });
    }
  },

  "usage counts a deletion where it is kept as a file": async (subject) => {
    const { snapshotter, traits } = subject;
    await commitLayer(subject, "base", undefined, (path) => writeFile(join(path, "file"), ""));
    const mounts = await snapshotter.prepare("key", "base", {});
    await mounted(subject, mounts, (path) => rm(join(path, "file")));
    const { inodes } = await snapshotter.usage("key");
    assert.equal(inodes, traits.holdsWholeTrees ? 1n : 2n);
    await snapshotter.commit("child", "key", {});
    assert.equal((await snapshotter.usage("child")).inodes, inodes);
  },

  "remove of a snapshot whose directory is gone succeeds": async (subject) => {
    const { snapshotter } = subject;
    const [directory = ""] = writableDirectories(await snapshotter.prepare("key", undefined, {}));
    await rm(directory, { recursive: true });
    await snapshotter.remove("key");
    await snapshotter.cleanup();
    await fails(snapshotter.stat("key"), NotFoundError, "key");
  },

  "remove of a snapshot that is mounted somewhere succeeds": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    const mounts = await snapshotter.prepare("key", "base", {});
    await mounted(subject, mounts, () => snapshotter.remove("key"));
    await fails(snapshotter.stat("key"), NotFoundError, "key");
  },
};

/** The directories that only this snapshot has: what its bind mount shows, or what its overlay writes to. */
function writableDirectories(mounts: readonly Mount[]): string[] {
  return mounts.flatMap(({ type, source, options }) =>
    type === "bind"
      ? [source]
      : options
          .filter((option) => option.startsWith("upperdir="))
          .map((option) => option.slice("upperdir=".length)),
  );
}
