import assert from "node:assert/strict";
import {
  chmod,
  mkdir,
  mkdtempDisposable,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import {
  DataLossError,
  FailedPreconditionError,
  NotFoundError,
  ResourceExhaustedError,
  UnimplementedError,
} from "@oci-worker/errdefs";
import { mountAll, mountTemporarily, unmount } from "@oci-worker/mounts/mount";
import { type Logger, pino } from "pino";
import { type Config, defaults } from "../config.ts";
import type { DirectoryStore } from "./directory-store.ts";
import { openSnapshotter } from "./open.ts";

const silent = pino({ level: "silent" });

interface Opening extends Partial<Config> {
  readonly log?: Logger;
}

function openAt(root: string, { log = silent, ...settings }: Opening = {}) {
  return openSnapshotter({ ...defaults, snapshotter: "overlayfs", ...settings, root }, log);
}

async function withRoot(use: (root: string) => Promise<void>): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "directory-store-"));
  await use(join(directory.path, "root"));
}

async function commitBase(
  store: DirectoryStore,
  fill: (content: string) => Promise<void> = async () => undefined,
) {
  const [mount] = await store.prepare("filling", undefined, {});
  await fill(mount?.source ?? "");
  await store.commit("base", "filling", {});
}

function directoriesOf(root: string): Promise<string[]> {
  return readdir(join(root, "snapshots"));
}

describe("DirectoryStore", () => {
  test("describes snapshots with their upper directory if told so, and stores nothing of that", () =>
    withRoot(async (root) => {
      const label = "containerd.io/snapshot/overlay.upperdir";
      {
        await using store = await openAt(root, { upperdirLabel: true });
        await commitBase(store);
        const [mount] = await store.prepare("key", "base", { a: "1" });
        await store.view("view", "base", {});
        const upper = mount?.options.find((each) => each.startsWith("upperdir="))?.slice("upperdir=".length);
        const labels = { a: "1", [label]: upper };
        assert.deepEqual((await store.stat("key")).labels, labels);
        assert.deepEqual((await Array.fromAsync(store.walk(["name==key"])))[0]?.labels, labels);
        assert.deepEqual((await store.update("key", { merge: { b: "2" } })).labels, { ...labels, b: "2" });
        assert.equal((await stat((await store.stat("base")).labels[label] ?? "")).isDirectory(), true);
        // It has no directory of its own.
        assert.deepEqual((await store.stat("view")).labels, {});
        assert.deepEqual(
          await Array.fromAsync(store.walk([`labels."${label}"`])),
          [],
          "filters do not see it",
        );
      }
      await using store = await openAt(root);
      assert.deepEqual((await store.stat("key")).labels, { a: "1", b: "2" });
    }));

  test("has overlays mounted with the operator's options, and bind mounts not", () =>
    withRoot(async (root) => {
      await using store = await openAt(root, { mountOptions: ["index=on", "xino=off"] });
      await commitBase(store);
      const [mount] = await store.prepare("key", "base", {});
      assert.deepEqual(mount?.options.slice(0, 2), ["index=on", "xino=off"]);
      assert.deepEqual((await store.view("view", "base", {}))[0]?.options, ["ro", "rbind"]);
    }));

  test("does not open with options that no overlay can be mounted with, and tells which", () =>
    withRoot(async (root) => {
      await assert.rejects(openAt(root, { mountOptions: ["no_such_option"] }), FailedPreconditionError);
    }));

  test("refuses a snapshot with mapped ids where the file system cannot show it, says why, and makes nothing", async () => {
    await using tmpfs = await mountTemporarily([{ type: "tmpfs", source: "tmpfs", options: [] }], tmpdir());
    const directories = ["lower", "upper", "work"].map((name) => join(tmpfs.path, name));
    await Promise.all(directories.map((each) => mkdir(each)));
    const [lower, upper, work] = directories;
    // overlayfs maps ids of what is beneath it, and lets nobody map its own.
    const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
    await using overlay = await mountTemporarily([{ type: "overlay", source: "overlay", options }], tmpdir());
    await using store = await openAt(overlay.path, { snapshotter: "native" });
    const labels = {
      "containerd.io/snapshot/uidmapping": "0:100000:65536",
      "containerd.io/snapshot/gidmapping": "0:100000:65536",
    };
    for (const call of [store.prepare("key", undefined, labels), store.view("key", undefined, labels)]) {
      await assert.rejects(
        call,
        (error) =>
          error instanceof UnimplementedError && /cannot map the ids of .*uidmapping/.test(error.message),
      );
    }
    assert.deepEqual(await directoriesOf(overlay.path), []);
    await store.prepare("key", undefined, {});
  });

  test("closes its directories to all but their owner, also those that were open before", () =>
    withRoot(async (root) => {
      await mkdir(join(root, "snapshots"), { recursive: true });
      await chmod(root, 0o755);
      await chmod(join(root, "snapshots"), 0o777);
      await using store = await openAt(root);
      const [mount] = await store.prepare("key", undefined, {});
      for (const directory of [
        root,
        join(root, "snapshots"),
        join(root, "spare"),
        join(mount?.source ?? "", ".."),
      ]) {
        assert.equal((await stat(directory)).mode & 0o777, 0o700, directory);
      }
    }));

  test("makes the root of a snapshot 0755 whatever the umask", () =>
    withRoot(async (root) => {
      const umask = process.umask(0o077);
      try {
        await using store = await openAt(root);
        for (let index = 0; index < 100; index += 1) {
          const [mount] = await store.prepare(`key ${index}`, undefined, {});
          assert.equal((await stat(mount?.source ?? "")).mode & 0o7777, 0o755);
        }
      } finally {
        process.umask(umask);
      }
    }));

  test("sweeps at the start what has no snapshot, and keeps what has", () =>
    withRoot(async (root) => {
      const first = await openAt(root);
      await commitBase(first);
      await first.prepare("key", "base", {});
      const live = await directoriesOf(root);
      await first[Symbol.asyncDispose]();
      for (const name of ["999", "new-1000", "new-1", "rm-7", "something else"]) {
        await mkdir(join(root, "snapshots", name, "fs"), { recursive: true });
      }
      await mkdir(join(root, "spare", "new-1001"));
      await using second = await openAt(root);
      await second.cleanup();
      assert.deepEqual(await directoriesOf(root), live);
      assert.deepEqual(await readdir(join(root, "spare")), []);
    }));

  test("gives no id to a snapshot that any directory has, so that the first prepare after a crash succeeds", () =>
    withRoot(async (root) => {
      await (await openAt(root))[Symbol.asyncDispose]();
      // As when the power goes between the rename of a directory and its entry in the database.
      await mkdir(join(root, "snapshots", "1", "fs"), { recursive: true });
      await mkdir(join(root, "snapshots", "new-2"));
      await mkdir(join(root, "spare", "3"), { recursive: true });
      await using store = await openAt(root);
      const [mount] = await store.prepare("key", undefined, {});
      const [, id] = /\/snapshots\/(\d+)\/fs$/.exec(mount?.source ?? "") ?? [];
      assert(Number(id) > 3);
    }));

  test("puts into place a directory that was made ahead and whose move a power cut undid", () =>
    withRoot(async (root) => {
      const first = await openAt(root);
      const [mount] = await first.prepare("key", undefined, {});
      await writeFile(join(mount?.source ?? "", "file"), "content");
      await first[Symbol.asyncDispose]();
      const [id = ""] = await directoriesOf(root);
      await rename(join(root, "snapshots", id), join(root, "spare", id));
      await using second = await openAt(root);
      assert.deepEqual(await second.mounts("key"), [mount]);
      assert.equal((await stat(join(mount?.source ?? "", "file"))).size, 7);
    }));

  test("takes directories that were made ahead once there are some, all of them different", () =>
    withRoot(async (root) => {
      await using store = await openAt(root);
      const sources = new Set<string | undefined>();
      let count = 0;
      // Those who take them may be quicker than the thread that makes them: at some moment there are none.
      for (; count < 200 || (await readdir(join(root, "spare"))).length === 0; count += 1) {
        const [mount] = await store.prepare(`key ${count}`, undefined, {});
        sources.add(mount?.source);
        assert.deepEqual((await readdir(join(mount?.source ?? "", ".."))).sort(), ["fs", "work"]);
      }
      assert.equal(sources.size, count);
      await store.cleanup();
      assert.equal((await directoriesOf(root)).length, count);
    }));

  test("leaves nothing of a copy that fails, and says that the disk is full", async () => {
    await using tmpfs = await mountTemporarily(
      [{ type: "tmpfs", source: "tmpfs", options: ["size=4m"] }],
      tmpdir(),
    );
    await using store = await openAt(tmpfs.path, { snapshotter: "native" });
    await commitBase(store, (content) => writeFile(join(content, "file"), Buffer.alloc(2_500_000, 1)));
    await assert.rejects(store.prepare("key", "base", {}), ResourceExhaustedError);
    await assert.rejects(store.stat("key"), NotFoundError);
    await store.cleanup();
    assert.equal((await directoriesOf(tmpfs.path)).length, 1);
  });

  test("leaves nothing of a copy that its caller gives up", () =>
    withRoot(async (root) => {
      await using store = await openAt(root, { snapshotter: "native" });
      await commitBase(store, async (content) => {
        for (let index = 0; index < 2000; index += 1) {
          await mkdir(join(content, `${index}`));
        }
      });
      const controller = new AbortController();
      const preparing = store.prepare("key", "base", {}, controller.signal);
      controller.abort(new Error("nobody waits"));
      await assert.rejects(preparing, /nobody waits/);
      await store.cleanup();
      assert.equal((await directoriesOf(root)).length, 1);
      await store.prepare("key", "base", {});
    }));

  test("says that the parent is gone when it was removed under a copy", () =>
    withRoot(async (root) => {
      await using store = await openAt(root, { snapshotter: "native" });
      await commitBase(store, (content) => writeFile(join(content, "file"), "content"));
      const preparing = store.prepare("key", "base", {});
      const removing = store.remove("base");
      await removing;
      await assert.rejects(preparing, NotFoundError);
    }));

  test("waits for the disk at a commit if it is told to", () =>
    withRoot(async (root) => {
      await using store = await openAt(root, { syncOnCommit: true });
      await commitBase(store);
      assert.equal((await store.stat("base")).kind, "committed");
    }));

  test("does not delete what is mounted in the directory of a removed snapshot, and says so", () =>
    withRoot(async (root) => {
      const lines: Record<string, unknown>[] = [];
      const log = pino({ level: "warn" }, { write: (line) => lines.push(JSON.parse(line)) });
      await using store = await openAt(root, { log });
      const [mount] = await store.prepare("key", undefined, {});
      const mountPoint = join(mount?.source ?? "", "mounted");
      await mkdir(mountPoint);
      // A bind mount is of the same file system, which only the list of mounts can tell.
      await mkdir(join(root, "precious"));
      await writeFile(join(root, "precious", "file"), "");
      await mountAll([{ type: "bind", source: join(root, "precious"), options: ["rbind"] }], mountPoint);
      try {
        await store.remove("key");
        await store.cleanup();
        assert.deepEqual(await readdir(join(root, "precious")), ["file"]);
        assert.equal(lines.find((line) => line["mountPoint"] === mountPoint)?.["level"], 40);
      } finally {
        await unmount(mountPoint);
      }
      await store.cleanup();
      assert.deepEqual(await directoriesOf(root), []);
      assert.deepEqual(await readdir(join(root, "precious")), ["file"]);
    }));

  for (const snapshotter of ["overlayfs", "fuse-overlayfs"] as const) {
    describe(snapshotter, () => {
      test("deletes a removed snapshot that is still mounted only after that, and says so once", () =>
        withRoot(async (root) => {
          const lines: Record<string, unknown>[] = [];
          const log = pino({ level: "warn" }, { write: (line) => lines.push(JSON.parse(line)) });
          await using store = await openAt(root, { log, snapshotter });
          await commitBase(store, (content) => writeFile(join(content, "lower"), "of the base"));
          const shown = {
            overlay: await store.prepare("overlay", "base", {}),
            bind: await store.prepare("bind", undefined, {}),
          };
          {
            await using overlay = await mountTemporarily(shown.overlay, tmpdir());
            await using bind = await mountTemporarily(shown.bind, tmpdir());
            for (const key of ["overlay", "bind", "base"]) {
              await store.remove(key);
            }
            await store.cleanup();
            await store.cleanup();
            assert.equal(await readFile(join(overlay.path, "lower"), "utf8"), "of the base");
            await writeFile(join(overlay.path, "upper"), "");
            await writeFile(join(bind.path, "file"), "");
            assert.deepEqual(lines.map((line) => line["mountPoint"]).sort(), [
              ...[bind.path, overlay.path, overlay.path].sort(),
            ]);
          }
          await store.cleanup();
          assert.deepEqual(await directoriesOf(root), []);
        }));
    });
  }

  test("opens a root with the backend of its snapshots only", () =>
    withRoot(async (root) => {
      const first = await openAt(root, { snapshotter: "native" });
      await first.prepare("key", undefined, {});
      await first[Symbol.asyncDispose]();
      await assert.rejects(openAt(root, { snapshotter: "overlayfs" }), FailedPreconditionError);
      const second = await openAt(root, { snapshotter: "auto" });
      assert.equal(second.backend, "native");
      await second.remove("key");
      await second[Symbol.asyncDispose]();
      await using third = await openAt(root, { snapshotter: "overlayfs" });
      assert.equal(third.backend, "overlayfs");
    }));

  test("refuses a root whose snapshots are of a backend that it does not know", () =>
    withRoot(async (root) => {
      const store = await openAt(root);
      await store.prepare("key", undefined, {});
      await store[Symbol.asyncDispose]();
      const database = new DatabaseSync(join(root, "metadata.db"));
      database.exec("UPDATE facts SET value = 'devmapper'");
      database.close();
      await assert.rejects(openAt(root, { snapshotter: "auto" }), FailedPreconditionError);
    }));

  test("refuses stargz without a resolver to ask", () =>
    withRoot(async (root) => {
      await assert.rejects(
        openAt(root, { snapshotter: "stargz" }),
        (error) => error instanceof FailedPreconditionError && error.message.includes("resolverAddress"),
      );
    }));

  test("refuses directories without metadata, which it would take for rubbish", () =>
    withRoot(async (root) => {
      const first = await openAt(root);
      await commitBase(first);
      await first[Symbol.asyncDispose]();
      await rm(join(root, "metadata.db"));
      const before = await directoriesOf(root);
      for (const spoil of [async () => undefined, () => writeFile(join(root, "metadata.db"), "")]) {
        await spoil();
        await assert.rejects(openAt(root), DataLossError);
        assert.deepEqual(await directoriesOf(root), before);
      }
    }));

  test("says at the start which snapshots have lost their directory, and serves the others", () =>
    withRoot(async (root) => {
      const first = await openAt(root);
      await commitBase(first);
      await first.prepare("key", undefined, {});
      await first.view("view", "base", {});
      await first[Symbol.asyncDispose]();
      const ids = (await directoriesOf(root)).map(Number).sort((one, other) => one - other);
      await rm(join(root, "snapshots", `${ids[1]}`), { recursive: true });
      const lines: Record<string, unknown>[] = [];
      const log = pino({ level: "error" }, { write: (line) => lines.push(JSON.parse(line)) });
      await using second = await openAt(root, { log });
      assert.deepEqual(
        lines.map((line) => line["ids"]),
        [[ids[1]]],
      );
      await second.remove("key");
      await second.prepare("key", "base", {});
    }));

  test("refuses damaged metadata and touches no directory", () =>
    withRoot(async (root) => {
      const first = await openAt(root);
      await commitBase(first);
      await first[Symbol.asyncDispose]();
      await truncate(join(root, "metadata.db"), 5000);
      const before = await directoriesOf(root);
      await assert.rejects(openAt(root), /damaged/);
      assert.deepEqual(await directoriesOf(root), before);
    }));
});
