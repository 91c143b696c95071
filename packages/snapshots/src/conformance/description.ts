import assert from "node:assert/strict";
import { InvalidArgumentError, NotFoundError } from "@oci-worker/errdefs";
import type { Info, Snapshotter } from "../snapshotter.ts";
import { type Check, commitLayer, fails, listed } from "./subject.ts";

/** What stat, update and walk tell of snapshots. */
export const description: Readonly<Record<string, Check>> = {
  "stat refuses a snapshot that does not exist": async ({ snapshotter }) => {
    await fails(snapshotter.stat("no such key"), NotFoundError, "no such key");
  },

  "stat tells all of a snapshot of any kind": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, undefined, { a: "1" });
    await snapshotter.prepare("active", "base", { b: "2" });
    await snapshotter.view("view", "base", { c: "3" });
    const cases = [
      { name: "base", parent: undefined, kind: "committed", labels: { a: "1" } },
      { name: "active", parent: "base", kind: "active", labels: { b: "2" } },
      { name: "view", parent: "base", kind: "view", labels: { c: "3" } },
    ] as const;
    for (const { name, parent, kind, labels } of cases) {
      const info = await snapshotter.stat(name);
      assert.deepEqual([info.name, info.parent, info.kind, info.labels], [name, parent, kind, labels]);
      assert(info.createdAtNs > 0n && info.updatedAtNs > 0n);
    }
  },

  "a client may be closed twice": async ({ snapshotter, reopen }) => {
    await snapshotter.prepare("key", undefined, {});
    await snapshotter[Symbol.asyncDispose]();
    await snapshotter[Symbol.asyncDispose]();
    assert.equal((await (await reopen()).stat("key")).name, "key");
  },

  "a snapshot is made and updated at the same moment, during the call": async (subject) => {
    const { snapshotter } = subject;
    await during(snapshotter, "active", () => snapshotter.prepare("active", undefined, {}));
    await during(snapshotter, "view", () => snapshotter.view("view", undefined, {}));
    const prepared = await snapshotter.stat("active");
    await during(snapshotter, "committed", () => snapshotter.commit("committed", "active", {}));
    const committed = await snapshotter.stat("committed");
    assert(committed.createdAtNs > prepared.createdAtNs, "commit is a new creation");
  },

  "labels are stored as given, save those without a value, and are nobody's heirs": async (subject) => {
    const { snapshotter } = subject;
    const labels = { "containerd.io/gc.root": "now", "Foo_bar.baz/é": "x".repeat(5000), toString: "1" };
    await commitLayer(subject, "base", undefined, undefined, { ...labels, empty: "" });
    assert.deepEqual((await snapshotter.stat("base")).labels, labels);
    await snapshotter.prepare("active", "base", { a: "1", empty: "" });
    assert.deepEqual((await snapshotter.stat("active")).labels, { a: "1" });
    await snapshotter.view("view", "base", {});
    assert.deepEqual((await snapshotter.stat("view")).labels, {});
    await snapshotter.commit("committed", "active", { b: "2" });
    assert.deepEqual((await snapshotter.stat("committed")).labels, { b: "2" });
  },

  "labels that are too large are refused, and nothing is made": async ({ snapshotter }) => {
    const huge = { a: "x".repeat(70_000) };
    await fails(snapshotter.prepare("key", undefined, huge), InvalidArgumentError, "70001 bytes");
    await snapshotter.prepare("key", undefined, {});
    await fails(snapshotter.commit("name", "key", huge), InvalidArgumentError, "70001 bytes");
    await fails(snapshotter.update("key", { merge: huge }), InvalidArgumentError, "70001 bytes");
    assert.deepEqual((await snapshotter.stat("key")).labels, {});
  },

  "update replaces all labels, or sets and deletes some, of a snapshot of any kind": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "committed");
    await snapshotter.prepare("active", "committed", {});
    await snapshotter.view("view", "committed", {});
    for (const key of ["committed", "active", "view"]) {
      const before = await snapshotter.stat(key);
      const steps = [
        [{ replace: { a: "1", b: "2" } }, { a: "1", b: "2" }],
        [{ merge: { "c.d/e": "3", a: "" } }, { b: "2", "c.d/e": "3" }],
        [{ merge: { absent: "" } }, { b: "2", "c.d/e": "3" }],
        [{ replace: { empty: "", b: "4" } }, { b: "4" }],
        [{ replace: {} }, {}],
      ] as const;
      for (const [change, labels] of steps) {
        const startNs = nowNs();
        const updated = await snapshotter.update(key, change);
        assert(updated.updatedAtNs >= startNs && updated.updatedAtNs <= nowNs());
        assert.deepEqual(updated, { ...before, labels, updatedAtNs: updated.updatedAtNs });
        assert.deepEqual(await snapshotter.stat(key), updated);
      }
    }
  },

  "update changes neither mounts nor children": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    const mounts = await snapshotter.prepare("key", "base", {});
    await snapshotter.update("base", { replace: { a: "1" } });
    await snapshotter.update("key", { replace: { a: "1" } });
    assert.deepEqual(await snapshotter.mounts("key"), mounts);
    assert.equal((await snapshotter.stat("key")).parent, "base");
  },

  "update refuses a snapshot that does not exist": async ({ snapshotter }) => {
    await fails(snapshotter.update("no such key", { replace: {} }), NotFoundError, "no such key");
  },

  "walk on nothing ends at once": async ({ snapshotter }) => {
    assert.deepEqual(await Array.fromAsync(snapshotter.walk([])), []);
    assert.deepEqual(await Array.fromAsync(snapshotter.walk(["kind==active"])), []);
  },

  "walk tells of each snapshot what stat tells, and stat may be called meanwhile": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, undefined, { a: "1" });
    for (let index = 0; index < 250; index += 1) {
      await snapshotter.view(`view ${index}`, "base", { index: String(index) });
    }
    const names = new Set<string>();
    for await (const info of snapshotter.walk([])) {
      names.add(info.name);
      assert.deepEqual(await snapshotter.stat(info.name), info);
    }
    assert.equal(names.size, 251);
  },

  "pages hold what walk tells, each of them something": async (subject) => {
    const { snapshotter } = subject;
    assert.deepEqual(await Array.fromAsync(snapshotter.pages([])), []);
    await commitLayer(subject, "base");
    for (let index = 0; index < 150; index += 1) {
      await snapshotter.view(`view ${index}`, "base", {});
    }
    for (const filters of [[], ["kind==committed"], ["kind==active"]]) {
      const pages = await Array.fromAsync(snapshotter.pages(filters));
      assert(!pages.some(({ length }) => length === 0));
      assert.deepEqual(pages.flat(), await Array.fromAsync(snapshotter.walk(filters)));
    }
  },

  "walk may be left early, and writers do not wait for its reader": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base");
    for (let index = 0; index < 250; index += 1) {
      await snapshotter.view(`view ${index}`, "base", {});
    }
    for await (const info of snapshotter.walk([])) {
      assert.notEqual(info.name, "");
      await snapshotter.prepare("made meanwhile", "base", {});
      await snapshotter.remove("made meanwhile");
      break;
    }
    assert.equal((await listed(snapshotter)).size, 251);
  },

  "walk lists what one of its filters matches": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, undefined, { "example.com/a": "1" });
    await snapshotter.prepare("active", "base", { "example.com/a": "2", l: "3" });
    await snapshotter.view("view", undefined, {});
    const cases: readonly (readonly [filters: readonly string[], names: readonly string[]])[] = [
      [["kind==active"], ["active"]],
      [
        ["kind==active", "kind==view"],
        ["active", "view"],
      ],
      [["kind==active,kind==view"], []],
      [['labels."example.com/a"'], ["active", "base"]],
      [['labels."example.com/a"==1'], ["base"]],
      [['labels."example.com/a"!=1'], ["active", "view"]],
      [["labels.l~=^[0-9]$"], ["active"]],
      [['parent==""'], ["base", "view"]],
      [["parent==base,name!=base"], ["active"]],
      [["name~=/^(base|view)$/"], ["base", "view"]],
      [
        ["", "kind==active"],
        ["active", "base", "view"],
      ],
    ];
    for (const [filters, names] of cases) {
      assert.deepEqual(
        [...(await listed(snapshotter, ...filters)).keys()].sort(),
        names,
        filters.join(" or "),
      );
    }
  },

  "walk refuses a filter that cannot be read": async ({ snapshotter }) => {
    await fails(Array.fromAsync(snapshotter.walk(["kind="])), InvalidArgumentError, "[kind >|=|< ]");
  },

  "walk sends snapshots with large labels in messages that its reader takes": async (subject) => {
    const { snapshotter } = subject;
    const labels = Object.fromEntries(["a", "b", "c", "d"].map((key) => [key, key.repeat(60_000)]));
    for (let index = 0; index < 100; index += 1) {
      await snapshotter.view(`view ${index}`, undefined, labels);
    }
    for (const info of (await listed(snapshotter)).values()) {
      assert.deepEqual(info.labels, labels);
    }
  },
};

/** Asserts that `make` gives the snapshot `key` a creation time between its start and its end. */
async function during(snapshotter: Snapshotter, key: string, make: () => Promise<unknown>): Promise<void> {
  const startNs = nowNs();
  await make();
  const endNs = nowNs();
  const info: Info = await snapshotter.stat(key);
  assert.equal(info.createdAtNs, info.updatedAtNs);
  assert(
    info.createdAtNs >= startNs && info.createdAtNs <= endNs,
    `${info.createdAtNs} in ${startNs}..${endNs}`,
  );
}

function nowNs(): bigint {
  return Temporal.Now.instant().epochNanoseconds;
}
