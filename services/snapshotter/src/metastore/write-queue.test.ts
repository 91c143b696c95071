import assert from "node:assert/strict";
import { mkdtempDisposable, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { ResourceExhaustedError, UnavailableError } from "@oci-worker/errdefs";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { Reserve } from "./reserve.ts";
import { WriteQueue } from "./write-queue.ts";

const setUp =
  "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)";

async function withQueue(use: (queue: WriteQueue, database: DatabaseSync, path: string) => Promise<void>) {
  await using directory = await mkdtempDisposable(join(tmpdir(), "write-queue-"));
  const path = join(directory.path, "test.db");
  const database = new DatabaseSync(path);
  database.exec(setUp);
  try {
    await use(new WriteQueue(database, new Reserve(`${path}-reserve`)), database, path);
  } finally {
    database.close();
  }
}

/** What another process would see of the file: only what has been committed. */
function rowsOf(path: string): unknown[] {
  const other = new DatabaseSync(path, { readOnly: true });
  try {
    return other
      .prepare("SELECT n FROM t ORDER BY n")
      .all()
      .map((row) => row["n"]);
  } finally {
    other.close();
  }
}

describe("WriteQueue", () => {
  test("a change is on disk when its caller is told", () =>
    withQueue(async (queue, database, path) => {
      const insert = database.prepare("INSERT INTO t (n) VALUES (?)");
      const results = await Promise.all(
        [1, 2, 3].map(async (n) => {
          const result = await queue.submit(() => {
            insert.run(n);
            return `made ${n}`;
          });
          assert.deepEqual(rowsOf(path), [1, 2, 3]);
          return result;
        }),
      );
      assert.deepEqual(results, ["made 1", "made 2", "made 3"]);
    }));

  test("changes that are submitted together share one transaction", () =>
    withQueue(async (queue, database, path) => {
      const insert = database.prepare("INSERT INTO t (n) VALUES (?)");
      const seenByOthers: unknown[][] = [];
      await Promise.all(
        [1, 2, 3].map((n) =>
          queue.submit(() => {
            insert.run(n);
            seenByOthers.push(rowsOf(path));
          }),
        ),
      );
      assert.deepEqual(seenByOthers, [[], [], []]);
    }));

  test("a change that fails is undone alone, and its caller gets its error", () =>
    withQueue(async (queue, database, path) => {
      const insert = database.prepare("INSERT INTO t (n) VALUES (?)");
      const failure = new Error("refused");
      const outcomes = await Promise.allSettled([
        queue.submit(() => insert.run(1)),
        queue.submit(() => {
          insert.run(2);
          throw failure;
        }),
        queue.submit(() => insert.run(1)),
        queue.submit(() => insert.run(3)),
      ]);
      assert.deepEqual(rowsOf(path), [1, 3]);
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ["fulfilled", "rejected", "rejected", "fulfilled"],
      );
      assert(outcomes[1]?.status === "rejected" && outcomes[1].reason === failure);
      assert(outcomes[2]?.status === "rejected" && /UNIQUE/.test(String(outcomes[2].reason)));
    }));

  test("a change sees those before it, and a reader in between sees none of them", () =>
    withQueue(async (queue, database) => {
      const insert = database.prepare("INSERT INTO t (n) VALUES (?)");
      const count = database.prepare("SELECT count(*) AS n FROM t");
      const first = queue.submit(() => insert.run(1));
      const second = queue.submit(() => count.get()?.["n"]);
      assert.equal(count.get()?.["n"], 0);
      await first;
      assert.equal(await second, 1);
    }));

  test("closing makes durable what was submitted and refuses the rest", () =>
    withQueue(async (queue, database, path) => {
      const insert = database.prepare("INSERT INTO t (n) VALUES (?)");
      const submitted = queue.submit(() => insert.run(1));
      queue.close();
      assert.deepEqual(rowsOf(path), [1]);
      await submitted;
      await assert.rejects(
        queue.submit(() => insert.run(2)),
        UnavailableError,
      );
    }));

  test("a full disk is told to every caller, loses nothing, lets removals through and is over when there is room", async () => {
    await using tmpfs = await mountTemporarily(
      [{ type: "tmpfs", source: "tmpfs", options: ["size=12m"] }],
      tmpdir(),
    );
    const path = join(tmpfs.path, "test.db");
    using database = new DatabaseSync(path);
    database.exec(setUp);
    const queue = new WriteQueue(database, new Reserve(`${path}-reserve`));
    const insert = database.prepare("INSERT INTO t (n, text) VALUES (?, ?)");
    await queue.submit(() => insert.run(1, ""));
    const ballast = join(tmpfs.path, "ballast");
    await assert.rejects(writeFile(ballast, Buffer.alloc(12_000_000)), { code: "ENOSPC" });
    const large = "x".repeat(100_000);
    const outcomes = await Promise.allSettled([2, 3].map((n) => queue.submit(() => insert.run(n, large))));
    for (const outcome of outcomes) {
      assert(
        outcome.status === "rejected" && outcome.reason instanceof ResourceExhaustedError,
        JSON.stringify(outcome),
      );
    }
    assert.deepEqual(
      database
        .prepare("SELECT n FROM t")
        .all()
        .map((row) => row["n"]),
      [1],
    );
    const remove = database.prepare("DELETE FROM t WHERE n = ?");
    const [refused, freed] = await Promise.allSettled([
      queue.submit(() => insert.run(4, large)),
      queue.submit(() => remove.run(1), { freesDisk: true }),
    ]);
    assert.deepEqual([refused.status, freed.status], ["rejected", "fulfilled"]);
    // What was kept for removals is not for others, although there is room for them now.
    await assert.rejects(
      queue.submit(() => insert.run(4, "")),
      ResourceExhaustedError,
    );
    await rm(ballast);
    await queue.submit(() => insert.run(2, large));
    assert.equal(database.prepare("SELECT count(*) AS n FROM t").get()?.["n"], 1);
    await assert.rejects(writeFile(ballast, Buffer.alloc(12_000_000)), { code: "ENOSPC" });
    await queue.submit(() => remove.run(2), { freesDisk: true });
  });
});
