import assert from "node:assert/strict";
import { readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  AlreadyExistsError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  UnimplementedError,
} from "@oci-worker/errdefs";
import { type Check, commitLayer, fails, listed, mounted } from "./subject.ts";

/** Which transitions there are between kinds, and which calls refuse which. */
export const lifeCycle: Readonly<Record<string, Check>> = {
  "prepare makes an active snapshot, view a view, commit a committed one": async ({ snapshotter }) => {
    await snapshotter.prepare("key", undefined, {});
    assert.equal((await snapshotter.stat("key")).kind, "active");
    await snapshotter.commit("name", "key", {});
    assert.equal((await snapshotter.stat("name")).kind, "committed");
    await snapshotter.view("look", "name", {});
    assert.equal((await snapshotter.stat("look")).kind, "view");
  },

  "prepare and view refuse a key that any snapshot has": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "committed");
    await snapshotter.prepare("active", undefined, {});
    await snapshotter.view("view", "committed", {});
    for (const taken of ["active", "view", "committed"]) {
      await fails(snapshotter.prepare(taken, undefined, {}), AlreadyExistsError, taken);
      await fails(snapshotter.view(taken, "committed", {}), AlreadyExistsError, taken);
    }
  },

  "prepare and view refuse a parent that does not exist": async ({ snapshotter }) => {
    await fails(snapshotter.prepare("key", "no such parent", {}), NotFoundError, "no such parent");
    await fails(snapshotter.view("key", "no such parent", {}), NotFoundError, "no such parent");
  },

  "prepare and view refuse a parent that is not committed": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "committed");
    await snapshotter.prepare("active", undefined, {});
    await snapshotter.view("view", "committed", {});
    for (const parent of ["active", "view"]) {
      await fails(snapshotter.prepare("key", parent, {}), InvalidArgumentError, parent);
      await fails(snapshotter.view("key", parent, {}), InvalidArgumentError, parent);
    }
  },

  "a failed prepare leaves no snapshot": async ({ snapshotter }) => {
    await fails(snapshotter.prepare("key", "no such parent", {}), NotFoundError, "key");
    await fails(snapshotter.stat("key"), NotFoundError, "key");
    assert.equal((await listed(snapshotter)).size, 0);
    await snapshotter.prepare("key", undefined, {});
  },

  "mounts tells the list of prepare again, and that of view": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "one");
    await commitLayer(subject, "two", "one");
    for (const parent of [undefined, "one", "two"]) {
      const active = await snapshotter.prepare(`active on ${parent}`, parent, {});
      const view = await snapshotter.view(`view of ${parent}`, parent, {});
      assert(active.length > 0 && view.length > 0);
      assert.deepEqual(await snapshotter.mounts(`active on ${parent}`), active);
      assert.deepEqual(await snapshotter.mounts(`view of ${parent}`), view);
    }
  },

  "mounts refuses a committed snapshot and one that does not exist": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "committed");
    await fails(snapshotter.mounts("committed"), FailedPreconditionError, "committed");
    await fails(snapshotter.mounts("no such key"), NotFoundError, "no such key");
  },

  "commit gives the snapshot its name, keeps its parent and frees its key": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    await snapshotter.prepare("key", "base", {});
    await snapshotter.commit("name", "key", {});
    assert.equal((await snapshotter.stat("name")).parent, "base");
    await fails(snapshotter.stat("key"), NotFoundError, "key");
    await snapshotter.prepare("key", "name", {});
  },

  "commit moves no data": async (subject) => {
    const { snapshotter } = subject;
    let inode: bigint | undefined;
    await commitLayer(subject, "name", undefined, async (path) => {
      await writeFile(join(path, "file"), "content");
      inode = (await stat(join(path, "file"), { bigint: true })).ino;
    });
    await mounted(subject, await snapshotter.view("view", "name", {}), async (path) => {
      assert.equal((await stat(join(path, "file"), { bigint: true })).ino, inode);
    });
  },

  "commit refuses a key that does not exist, also when the name is taken": async (subject) => {
    await commitLayer(subject, "taken");
    await fails(subject.snapshotter.commit("name", "no such key", {}), NotFoundError, "no such key");
    await fails(subject.snapshotter.commit("taken", "no such key", {}), NotFoundError, "no such key");
  },

  "commit refuses a name that is taken, its own key included, and the key stays as it was": async (
    subject,
  ) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "taken");
    const mounts = await snapshotter.prepare("key", "taken", { a: "1" });
    const before = await snapshotter.stat("key");
    await fails(snapshotter.commit("taken", "key", {}), AlreadyExistsError, "taken");
    await fails(snapshotter.commit("key", "key", {}), AlreadyExistsError, "key");
    assert.deepEqual(await snapshotter.stat("key"), before);
    assert.deepEqual(await snapshotter.mounts("key"), mounts);
    await snapshotter.commit("name", "key", {});
  },

  "commit refuses a view and a committed snapshot": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "committed");
    await snapshotter.view("view", "committed", {});
    await fails(snapshotter.commit("name", "view", {}), FailedPreconditionError, "view");
    await fails(snapshotter.commit("name", "committed", {}), FailedPreconditionError, "committed");
  },

  "commit on the parent that a snapshot has changes nothing; on another one it is refused": async (
    subject,
  ) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    await commitLayer(subject, "other");
    await snapshotter.prepare("key", "base", {});
    await fails(snapshotter.commit("name", "key", {}, "other"), InvalidArgumentError, "other");
    await snapshotter.commit("name", "key", {}, "base");
    assert.equal((await snapshotter.stat("name")).parent, "base");
  },

  "commit puts a snapshot without parent on one, or says that it cannot": async (subject) => {
    const { snapshotter, traits } = subject;
    await commitLayer(subject, "base", undefined, (path) => writeFile(join(path, "of base"), ""));
    await mounted(subject, await snapshotter.prepare("key", undefined, {}), (path) =>
      writeFile(join(path, "of key"), ""),
    );
    if (!traits.canRebase) {
      await fails(snapshotter.commit("name", "key", {}, "base"), UnimplementedError, "base");
      assert.equal((await snapshotter.stat("key")).kind, "active");
      return;
    }
    await fails(snapshotter.commit("name", "key", {}, "no such parent"), NotFoundError, "no such parent");
    await fails(snapshotter.commit("name", "key", {}, "key"), FailedPreconditionError, "key");
    await snapshotter.commit("name", "key", {}, "base");
    assert.equal((await snapshotter.stat("name")).parent, "base");
    await fails(snapshotter.remove("base"), FailedPreconditionError, "base");
    await mounted(subject, await snapshotter.prepare("child", "name", {}), async (path) => {
      assert.deepEqual((await readdir(path)).sort(), ["of base", "of key"]);
    });
  },

  "remove takes a snapshot of any kind, and its key is free for any other": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    await snapshotter.prepare("key", "base", {});
    await snapshotter.remove("key");
    await snapshotter.view("key", undefined, {});
    await snapshotter.remove("key");
    await commitLayer(subject, "key", "base");
    await snapshotter.remove("key");
    await commitLayer(subject, "key");
    assert.equal((await snapshotter.stat("key")).parent, undefined);
  },

  "remove refuses a snapshot that does not exist": async ({ snapshotter }) => {
    await fails(snapshotter.remove("no such key"), NotFoundError, "no such key");
  },

  "remove refuses a parent until its children are gone, and says so": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    await commitLayer(subject, "middle", "base");
    await snapshotter.prepare("active", "middle", {});
    await snapshotter.view("view", "middle", {});
    await fails(snapshotter.remove("base"), FailedPreconditionError, "remove");
    await fails(snapshotter.remove("middle"), FailedPreconditionError, "remove");
    for (const key of ["active", "view", "middle", "base"]) {
      await snapshotter.remove(key);
    }
    assert.equal((await listed(snapshotter)).size, 0);
  },

  "the label snapshot.ref does not keep a snapshotter without remote layers from preparing": async (
    subject,
  ) => {
    const { snapshotter } = subject;
    const labels = { "containerd.io/snapshot.ref": "sha256:target" };
    assert((await snapshotter.prepare("key", undefined, labels)).length > 0);
    assert.deepEqual((await snapshotter.stat("key")).labels, labels);
  },

  "an empty key or name is refused, and so is one with a NUL": async (subject) => {
    const { snapshotter } = subject;
    for (const wrong of ["", "a\0b"]) {
      await fails(snapshotter.prepare(wrong, undefined, {}), InvalidArgumentError, "key");
      await fails(snapshotter.view(wrong, undefined, {}), InvalidArgumentError, "key");
      await snapshotter.prepare("key", undefined, {});
      await fails(snapshotter.commit(wrong, "key", {}), InvalidArgumentError, "name");
      await snapshotter.remove("key");
      await fails(snapshotter.stat(wrong), NotFoundError, "stat");
    }
    assert.equal((await listed(snapshotter)).size, 0);
  },

  "any other text is a key": async (subject) => {
    const { snapshotter } = subject;
    const keys = [
      "../../etc/passwd",
      "/",
      ".",
      "a b\tc\nd",
      "ns/1/sha256:é😀",
      "%2F",
      "'; DROP TABLE snapshots; --",
      "x".repeat(40_000),
    ];
    for (const key of keys) {
      await snapshotter.prepare(key, undefined, {});
      await snapshotter.commit(`${key} committed`, key, {});
      await snapshotter.prepare(key, `${key} committed`, {});
      assert.equal((await snapshotter.stat(key)).parent, `${key} committed`);
    }
    assert.deepEqual(
      new Set((await listed(snapshotter)).keys()),
      new Set(keys.flatMap((key) => [key, `${key} committed`])),
    );
    await fails(snapshotter.prepare("x".repeat(70_000), undefined, {}), InvalidArgumentError, "70000 bytes");
  },

  "of concurrent calls that want one key or name exactly one wins": async (subject) => {
    const { snapshotter } = subject;
    const many = Array.from({ length: 16 }, (_, index) => index);
    const prepares = await Promise.allSettled(many.map(() => snapshotter.prepare("key", undefined, {})));
    assertOneWon(prepares);
    await Promise.all(many.map((index) => snapshotter.prepare(`key ${index}`, undefined, {})));
    const commits = await Promise.allSettled(
      many.map((index) => snapshotter.commit("name", `key ${index}`, {})),
    );
    assertOneWon(commits);
    const left = await listed(snapshotter, "kind==active");
    assert.equal(left.size, many.length, "the losers' keys and `key` are as they were");
  },

  "what was acknowledged is there after a restart, mounts included": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, undefined, { a: "1" });
    const active = await snapshotter.prepare("active", "base", { b: "2" });
    const view = await snapshotter.view("view", "base", {});
    const usage = await snapshotter.usage("base");
    const before = await listed(snapshotter);
    const again = await subject.reopen();
    assert.deepEqual(await listed(again), before);
    assert.deepEqual(await again.mounts("active"), active);
    assert.deepEqual(await again.mounts("view"), view);
    assert.deepEqual(await again.usage("base"), usage);
    await again.prepare("new", "base", {});
  },
};

function assertOneWon(outcomes: readonly PromiseSettledResult<unknown>[]): void {
  assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
  for (const outcome of outcomes) {
    assert(outcome.status === "fulfilled" || outcome.reason instanceof AlreadyExistsError);
  }
}
