import assert from "node:assert/strict";
import { mkdtempDisposable, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import {
  AbortedError,
  AlreadyExistsError,
  DataLossError,
  FailedPreconditionError,
  NotFoundError,
} from "@oci-worker/errdefs";
import { Metastore } from "./metastore.ts";

const usage = { sizeBytes: 9_007_199_254_740_993n, inodes: 1n };

async function withPath(use: (path: string) => Promise<void>): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "metastore-"));
  await use(join(directory.path, "metadata.db"));
}

async function withStore(use: (store: Metastore) => Promise<void>): Promise<void> {
  await withPath(async (path) => {
    using store = new Metastore(path);
    await use(store);
  });
}

function active(key: string, parent?: string) {
  return { key, kind: "active", parent, labels: {} } as const;
}

async function commitOne(store: Metastore, id: number, name: string, parent?: string): Promise<void> {
  const parentID = parent === undefined ? undefined : store.find(parent)?.id;
  await store.create(id, active(`filling ${name}`, parent), parentID);
  await store.commit({ name, key: `filling ${name}`, labels: {}, parent: undefined }, id, usage);
}

describe("Metastore", () => {
  test("keeps everything over a restart, times and sizes beyond 2^53 exactly", () =>
    withPath(async (path) => {
      using first = new Metastore(path);
      await commitOne(first, 1, "base");
      await first.create(2, { ...active("key", "base"), labels: { a: "é", empty: "" } }, 1);
      await first.setBackend("overlayfs");
      const before = [first.find("base"), first.find("key")];
      assert.equal(before[0]?.usage?.sizeBytes, usage.sizeBytes);
      // One in a thousand moments has none beyond its milliseconds: the clock has microseconds.
      for (let id = 3; id <= 12; id += 1) {
        await first.create(id, active(`key ${id}`), undefined);
      }
      const moments = [...before, ...first.page(0, 20)].map((record) => record?.createdAtNs ?? 0n);
      assert(
        moments.some((ns) => ns % 1_000_000n !== 0n),
        "nanoseconds are kept",
      );
      assert.deepEqual(before[1]?.labels, { a: "é" });
      first[Symbol.dispose]();

      using second = new Metastore(path);
      assert.deepEqual([second.find("base"), second.find("key")], before);
      assert.equal(second.backend, "overlayfs");
      assert.equal(second.lastID, 12);
    }));

  test("is readable by its owner alone", () =>
    withPath(async (path) => {
      using store = new Metastore(path);
      await store.create(1, active("key"), undefined);
      assert.equal((await stat(path)).mode & 0o777, 0o600);
      assert.equal((await stat(`${path}-wal`)).mode & 0o777, 0o600);
    }));

  test("never takes the id of a removed snapshot for a new one, also after a restart", () =>
    withPath(async (path) => {
      using first = new Metastore(path);
      await first.create(7, active("key"), undefined);
      await first.remove("key");
      first[Symbol.dispose]();
      using second = new Metastore(path);
      assert.equal(second.lastID, 7);
      assert.deepEqual(second.ids(), new Set());
    }));

  test("tells what lies beneath, the nearest first, from memory and from disk alike", () =>
    withPath(async (path) => {
      using first = new Metastore(path);
      await commitOne(first, 3, "one");
      await commitOne(first, 1, "two", "one");
      await commitOne(first, 2, "three", "two");
      for (const _ of ["read", "remembered"]) {
        assert.deepEqual(first.ancestors(2), [2, 1, 3]);
      }
      assert.deepEqual(first.ancestors(undefined), []);
      first[Symbol.dispose]();
      using second = new Metastore(path);
      assert.deepEqual(second.ancestors(2), [2, 1, 3]);
    }));

  test("gives pages in the order of ids, each snapshot once although others come and go", () =>
    withStore(async (store) => {
      for (let id = 1; id <= 5; id += 1) {
        await store.create(id, active(`key ${id}`), undefined);
      }
      const first = store.page(0, 2);
      await store.remove("key 2");
      await store.commit({ name: "renamed", key: "key 1", labels: {}, parent: undefined }, 1, usage);
      await store.create(6, active("key 6"), undefined);
      const second = store.page(first.at(-1)?.id ?? 0, 10);
      assert.deepEqual(
        [...first, ...second].map(({ id }) => id),
        [1, 2, 3, 4, 5, 6],
      );
    }));

  test("forgets a record that it has read as soon as that changes, and keeps it when the change fails", () =>
    withStore(async (store) => {
      await store.create(1, active("key"), undefined);
      const before = store.find("key");
      await assert.rejects(store.update("key", { replace: { a: "x".repeat(100_000) } }));
      assert.deepEqual(store.find("key"), before);
      const updated = await store.update("key", { replace: { a: "1" } });
      assert.deepEqual(store.find("key"), updated);
      await store.commit({ name: "name", key: "key", labels: { b: "2" }, parent: undefined }, 1, usage);
      assert.equal(store.find("key"), undefined);
      assert.deepEqual(store.find("name")?.labels, { b: "2" });
      await store.remove("name");
      assert.equal(store.find("name"), undefined);
    }));

  test("changes that are made together see each other, and nobody sees what is undone", () =>
    withStore(async (store) => {
      const outcomes = await Promise.allSettled([
        store.create(1, active("key"), undefined),
        store.create(2, active("key"), undefined),
        store.commit({ name: "name", key: "key", labels: {}, parent: undefined }, 1, usage),
        store.create(3, active("child", "name"), 1),
        store.remove("name"),
        store.remove("key"),
      ]);
      const reasons = outcomes.map((outcome) =>
        outcome.status === "rejected" ? outcome.reason.constructor : undefined,
      );
      const [no, taken, gone, parent] = [
        undefined,
        AlreadyExistsError,
        NotFoundError,
        FailedPreconditionError,
      ];
      assert.deepEqual(reasons, [no, taken, no, no, parent, gone]);
      assert.equal(store.find("child")?.parent, "name");
      assert.equal(store.lastID, 3);
    }));

  test("a snapshot that was replaced since it was looked at is not taken for the one that is there now", () =>
    withStore(async (store) => {
      await commitOne(store, 1, "base");
      await store.create(2, active("key"), undefined);
      await store.remove("base");
      await store.remove("key");
      await commitOne(store, 3, "base");
      await store.create(4, active("key"), undefined);
      await assert.rejects(store.create(5, active("child", "base"), 1), AbortedError);
      const change = { name: "name", key: "key", labels: {}, parent: undefined };
      await assert.rejects(store.commit(change, 2, usage), AbortedError);
      assert.equal(store.find("child"), undefined);
      assert.equal(store.find("key")?.kind, "active");
    }));

  test("knows no backend while there is no snapshot", () =>
    withStore(async (store) => {
      await store.setBackend("native");
      assert.equal(store.backend, undefined);
      await store.create(1, active("key"), undefined);
      assert.equal(store.backend, "native");
    }));

  test("refuses a database of a newer version", () =>
    withPath(async (path) => {
      new Metastore(path)[Symbol.dispose]();
      const database = new DatabaseSync(path);
      database.exec("PRAGMA user_version = 1000");
      database.close();
      assert.throws(
        () => new Metastore(path),
        (error) => error instanceof FailedPreconditionError && /version 1000, want 1/.test(error.message),
      );
    }));

  test("refuses a database of another program", () =>
    withPath(async (path) => {
      const database = new DatabaseSync(path);
      database.exec("CREATE TABLE other (x)");
      database.close();
      assert.throws(() => new Metastore(path), FailedPreconditionError);
    }));

  test("refuses a file that is no database, and leaves it as it is", () =>
    withPath(async (path) => {
      const content = "something else entirely, of some length".repeat(100);
      await writeFile(path, content);
      assert.throws(() => new Metastore(path), DataLossError);
      assert.equal(await readFile(path, "utf8"), content);
    }));

  test("refuses a damaged database", () =>
    withPath(async (path) => {
      const store = new Metastore(path);
      for (let id = 1; id <= 200; id += 1) {
        await store.create(id, active(`key ${id} ${"x".repeat(200)}`), undefined);
      }
      store[Symbol.dispose]();
      const { size } = await stat(path);
      await truncate(path, size - 8192);
      assert.throws(
        () => new Metastore(path),
        (error) => error instanceof DataLossError && error.message.includes(path),
      );
    }));
});
