import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import {
  chmod,
  mkdir,
  mkdtempDisposable,
  open,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { lockRoot } from "@oci-worker/daemon/lock-root";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { pino } from "pino";
import type { DirectoryStore } from "../backends/directory-store.ts";
import { openSnapshotter } from "../backends/open.ts";
import { defaults } from "../config.ts";
import { checkRoot } from "./fsck.ts";
import { isClean, reportText } from "./report.ts";

const log = pino({ level: "silent" });

interface Damaged {
  readonly root: string;
  /** Runs SQL that no snapshotter would. */
  sql(text: string): void;
  /** The directory of a snapshot, by its key or name. */
  directoryOf(name: string): string;
}

/**
 * A root with `base`, on it `middle`, on that `top` and an active snapshot and a view, and beside them `other` with an
 * active snapshot of its own. Each layer has a file that bears its name.
 */
async function withRoot(use: (root: Damaged) => Promise<void>): Promise<void> {
  await using temporary = await mkdtempDisposable(join(tmpdir(), "fsck-"));
  const root = join(temporary.path, "root");
  const ids = new Map<string, number>();
  await serving(root, async (store) => {
    for (const [name, parent] of [["base"], ["middle", "base"], ["top", "middle"], ["other"]] as const) {
      const mounts = await store.prepare("filling", parent, {});
      await using directory = await mountTemporarily(mounts, temporary.path);
      await writeFile(join(directory.path, name), name);
      await store.commit(name, "filling", { name });
    }
    await store.prepare("active", "top", {});
    await store.view("view", "top", {});
    await store.prepare("other active", "other", {});
  });
  const sql = (text: string) => {
    using database = new DatabaseSync(join(root, "metadata.db"), { enableForeignKeyConstraints: false });
    database.enableDefensive(false);
    database.exec(text);
  };
  {
    using database = new DatabaseSync(join(root, "metadata.db"));
    for (const { id, name } of database.prepare("SELECT id, name FROM snapshots").all()) {
      ids.set(String(name), Number(id));
    }
  }
  await use({ root, sql, directoryOf: (name) => join(root, "snapshots", `${ids.get(name)}`) });
}

async function serving(root: string, use: (store: DirectoryStore) => Promise<void>): Promise<void> {
  await using store = await openSnapshotter({ ...defaults, root, snapshotter: "overlayfs" }, log);
  await use(store);
}

/** What is wrong with a root: kinds of problems, and of what. */
async function problemsOf(root: string): Promise<string[]> {
  const { findings } = await checkRoot(root, false);
  return findings
    .filter(({ severity }) => severity === "problem")
    .map(({ kind, about }) => `${kind} ${about}`)
    .sort();
}

/** Mends a root and serves it: it has exactly the snapshots `names`, and each that can be mounted shows its files. */
async function assertMended(root: string, names: readonly string[]): Promise<void> {
  const report = await checkRoot(root, true);
  assert(isClean(report), reportText(report));
  assert.deepEqual(await problemsOf(root), []);
  await serving(root, async (store) => {
    const infos = await Array.fromAsync(store.walk([]));
    assert.deepEqual(infos.map(({ name }) => name).sort(), [...names].sort());
    for (const { name, kind } of infos) {
      const isCommitted = kind === "committed";
      const mounts = isCommitted ? await store.view(`look at ${name}`, name, {}) : await store.mounts(name);
      await using directory = await mountTemporarily(mounts, tmpdir());
      const layer = isCommitted ? name : name === "other active" ? "other" : "top";
      assert.equal(readFileSync(join(directory.path, layer), "utf8"), layer);
    }
    await store.prepare("new", "other", {});
    await store.cleanup();
  });
}

const all = ["active", "base", "middle", "other", "other active", "top", "view"];

describe("fsck", () => {
  test("finds nothing in a root that is sound, changes nothing, and repairs nothing", () =>
    withRoot(async ({ root }) => {
      const { findings, ...rest } = await checkRoot(root, false);
      assert.deepEqual(
        findings.filter(({ severity, about }) => severity === "problem" || !about.startsWith("spare/")),
        [],
      );
      assert.equal(rest.snapshots, all.length);
      await assertMended(root, all);
      assert(!existsSync(join(root, "recovered")));
    }));

  test("finds nothing in the root of a process that was killed: leftovers are the next start's business", () =>
    withRoot(async ({ root }) => {
      await mkdir(join(root, "snapshots", "999", "fs"), { recursive: true });
      await mkdir(join(root, "snapshots", "new-1000"));
      const report = await checkRoot(root, false);
      assert(isClean(report));
      const leftovers = report.findings.map(({ severity, kind, about }) => `${severity} ${kind} ${about}`);
      assert(leftovers.includes("leftover orphan snapshots/999"));
      assert(leftovers.includes("leftover unfinished snapshots/new-1000"));
    }));

  test("moves a directory without a snapshot aside, and deletes one that was being filled", () =>
    withRoot(async ({ root }) => {
      await mkdir(join(root, "snapshots", "999", "fs"), { recursive: true });
      await writeFile(join(root, "snapshots", "999", "fs", "precious"), "content");
      await mkdir(join(root, "snapshots", "new-1000", "fs"), { recursive: true });
      await assertMended(root, all);
      assert.equal(readFileSync(join(root, "recovered", "999", "fs", "precious"), "utf8"), "content");
      assert.deepEqual(await readdir(join(root, "recovered")), ["999"]);
    }));

  test("removes a snapshot whose content is gone and all that stands on it, and keeps their content", () =>
    withRoot(async ({ root, directoryOf }) => {
      await writeFile(join(directoryOf("active"), "fs", "precious"), "content");
      await rm(directoryOf("middle"), { recursive: true });
      assert.deepEqual(await problemsOf(root), [
        'lost-ancestor "active"',
        'lost-ancestor "top"',
        'lost-ancestor "view"',
        'missing-directory "middle"',
      ]);
      const id = directoryOf("active").split("/").at(-1) ?? "";
      await assertMended(root, ["base", "other", "other active"]);
      assert.equal(readFileSync(join(root, "recovered", id, "fs", "precious"), "utf8"), "content");
      const note = JSON.parse(readFileSync(join(root, "recovered", `${id}.json`), "utf8"));
      assert.deepEqual([note.name, note.kind, note.parent], ["active", "active", "top"]);
    }));

  test("removes what has a parent that does not exist, is not committed, or stands on itself", () =>
    withRoot(async ({ root, sql }) => {
      sql("UPDATE snapshots SET parent_id = 12345 WHERE name = 'middle'");
      sql(
        "UPDATE snapshots SET parent_id = (SELECT id FROM snapshots WHERE name = 'view') WHERE name = 'other active'",
      );
      assert.deepEqual(
        await problemsOf(root),
        [
          'broken-parent "middle"',
          'lost-ancestor "active"',
          'lost-ancestor "other active"',
          'lost-ancestor "top"',
          'lost-ancestor "view"',
        ]
          .map((problem) => (problem.endsWith('"other active"') ? 'broken-parent "other active"' : problem))
          .sort(),
      );
      await assertMended(root, ["base", "other"]);
    }));

  test("ends where snapshots go round in a circle", () =>
    withRoot(async ({ root, sql }) => {
      sql(
        "UPDATE snapshots SET parent_id = (SELECT id FROM snapshots WHERE name = 'top') WHERE name = 'base'",
      );
      assert.equal((await problemsOf(root)).length, 5);
      await assertMended(root, ["other", "other active"]);
    }));

  test("makes the work directory that an active snapshot needs", () =>
    withRoot(async ({ root, directoryOf }) => {
      await rm(join(directoryOf("active"), "work"), { recursive: true });
      assert.deepEqual(await problemsOf(root), ['missing-work-directory "active"']);
      await assertMended(root, all);
    }));

  test("takes away labels that nobody can read, which would fail every list", () =>
    withRoot(async ({ root, sql }) => {
      sql("UPDATE snapshots SET labels = '{\"a' WHERE name = 'top'");
      assert.deepEqual(await problemsOf(root), ['unreadable-labels "top"']);
      await assertMended(root, all);
    }));

  test("notes whose directories they are, if nothing says so", () =>
    withRoot(async ({ root, sql }) => {
      sql("DELETE FROM facts");
      assert.deepEqual(await problemsOf(root), ["unknown-backend metadata.db"]);
      await assertMended(root, all);
    }));

  test("closes what others may look into", () =>
    withRoot(async ({ root, directoryOf }) => {
      await chmod(join(root, "metadata.db"), 0o644);
      await chmod(directoryOf("top"), 0o755);
      await chmod(root, 0o755);
      const id = directoryOf("top").split("/").at(-1);
      assert.deepEqual(await problemsOf(root), [
        "open-permissions metadata.db",
        `open-permissions snapshots/${id}`,
      ]);
      await assertMended(root, all);
      assert.equal((await stat(directoryOf("top"))).mode & 0o777, 0o700);
      assert.equal((await stat(join(root, "metadata.db"))).mode & 0o777, 0o600);
    }));

  test("puts into place a directory whose move a power cut undid", () =>
    withRoot(async ({ root, directoryOf }) => {
      const name = directoryOf("active").split("/").at(-1) ?? "";
      await rename(directoryOf("active"), join(root, "spare", name));
      assert.deepEqual(await problemsOf(root), []);
      await assertMended(root, all);
    }));

  test("saves the rows of a damaged database whose index is wrong", () =>
    withRoot(async ({ root, sql }) => {
      sql(`PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, 'parent_id IS NOT NULL', 'parent_id IS NULL') WHERE type = 'index';`);
      assert.deepEqual([...new Set(await problemsOf(root))], ["damaged-database metadata.db"]);
      await assertMended(root, all);
      assert.deepEqual(readdirSync(join(root, "recovered")), ["database"]);
    }));

  test("saves what it can of a database with a page of rubbish, and the content of all the rest", () =>
    withRoot(async ({ root, sql }) => {
      // Enough rows that the table has several pages, of which one is overwritten.
      sql(`WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 500)
        INSERT INTO snapshots SELECT n + 5000, 'view ' || n, (SELECT id FROM snapshots WHERE name = 'top'), 'view',
          '{"a":"' || hex(randomblob(100)) || '"}', 1, 1, NULL, NULL FROM count; PRAGMA wal_checkpoint(TRUNCATE);`);
      let page = 0;
      {
        using database = new DatabaseSync(join(root, "metadata.db"));
        const leaves = database
          .prepare("SELECT pageno FROM dbstat WHERE name = 'snapshots' AND pagetype = 'leaf'")
          .all();
        page = Number(leaves.at(10)?.["pageno"]);
      }
      {
        await using file = await open(join(root, "metadata.db"), "r+");
        await file.write(Buffer.alloc(4096, 0xa5), 0, 4096, (page - 1) * 4096);
      }
      await assert.rejects(
        serving(root, async () => undefined),
        /damaged/,
      );
      const report = await checkRoot(root, true);
      assert(isClean(report), reportText(report));
      await serving(root, async (store) => {
        const names = (await Array.fromAsync(store.walk([]))).map(({ name }) => name);
        assert(names.length > 400 && names.length < 507, `${names.length}`);
        for (const name of all) {
          assert(names.includes(name), name);
        }
      });
    }));

  test("makes a new database where nothing of the old one can be read, and keeps all content", () =>
    withRoot(async ({ root, directoryOf }) => {
      await writeFile(join(root, "metadata.db"), Buffer.alloc(20_000, 0xa5));
      await rm(join(root, "metadata.db-wal"), { force: true });
      const content = join(root, "recovered", directoryOf("top").split("/").at(-1) ?? "", "fs", "top");
      const report = await checkRoot(root, true);
      assert(isClean(report), reportText(report));
      assert.equal(readFileSync(content, "utf8"), "top");
      assert((await stat(join(root, "recovered", "database", "metadata.db"))).size === 20_000);
      await serving(root, async (store) => {
        assert.deepEqual(await Array.fromAsync(store.walk([])), []);
        const [mount] = await store.prepare("key", undefined, {});
        const id = Number(/\/(\d+)\/fs$/.exec(mount?.source ?? "")?.[1]);
        assert(id > Number(directoryOf("other active").split("/").at(-1)), "an id was given out again");
      });
    }));

  test("takes a database that is gone for damage, where there are directories", () =>
    withRoot(async ({ root }) => {
      await rm(join(root, "metadata.db"));
      assert.deepEqual(await problemsOf(root), ["damaged-database metadata.db"]);
      assert(isClean(await checkRoot(root, true)));
      assert.equal(readdirSync(join(root, "snapshots")).length, 0);
      assert(readdirSync(join(root, "recovered")).length >= 6);
    }));

  test("refuses a root that a process has, one that is not there, and what is none", () =>
    withRoot(async ({ root }) => {
      {
        await using _lock = await lockRoot(root, "lock");
        await assert.rejects(
          checkRoot(root, true),
          (error) => error instanceof FailedPreconditionError && error.message.includes(`${process.pid}`),
        );
      }
      await assert.rejects(checkRoot(join(root, "nothing"), false), NotFoundError);
      await mkdir(join(root, "empty"));
      await assert.rejects(checkRoot(join(root, "empty"), true), FailedPreconditionError);
      assert.deepEqual(await readdir(join(root, "empty")), []);
      await rmdir(join(root, "empty"));
    }));
});
