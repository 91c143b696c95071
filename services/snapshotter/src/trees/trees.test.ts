import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import {
  FailedPreconditionError,
  ResourceExhaustedError,
  ServiceError,
  UnavailableError,
} from "@oci-worker/errdefs";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { Trees } from "./trees.ts";

function fill(tree: string, directories: number): void {
  for (let index = 0; index < directories; index += 1) {
    mkdirSync(join(tree, `${index}`));
    writeFileSync(join(tree, `${index}`, "file"), "content");
  }
}

/** Deletes all there is. */
const patiently = { maxMs: Number.POSITIVE_INFINITY, isIdle: false };

describe("Trees", () => {
  test("can be disposed of while its threads are starting", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    for (let round = 0; round < 10; round += 1) {
      const trees = new Trees();
      const jobs = [1, 2].map(() => trees.run("measure", { path: directory.path }));
      const ended = Promise.allSettled(jobs);
      await trees[Symbol.asyncDispose]();
      await ended;
    }
  });

  test("does more jobs at once than it has threads", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    await using trees = new Trees();
    fill(directory.path, 20);
    const measured = await Promise.all(
      readdirSync(directory.path).map((name) => trees.run("measure", { path: join(directory.path, name) })),
    );
    assert.deepEqual(new Set(measured.map(({ inodes }) => inodes)), new Set([2n]));
    assert.equal(measured.length, 20);
  });

  test("stops a job whose signal is aborted, with the reason of the signal", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    await using trees = new Trees();
    fill(directory.path, 3000);
    const controller = new AbortController();
    const reason = new Error("nobody waits");
    const measuring = trees.run("measure", { path: directory.path }, controller.signal);
    controller.abort(reason);
    await assert.rejects(measuring, reason);
    assert.equal((await trees.run("measure", { path: directory.path })).inodes, 6001n);
    await assert.rejects(trees.run("measure", { path: directory.path }, controller.signal), reason);
  });

  test("passes errors on with their class or their code", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    await using trees = new Trees();
    await assert.rejects(trees.run("measure", { path: join(directory.path, "nothing") }), { code: "ENOENT" });
    const notThere = {
      from: directory.path,
      to: join(directory.path, "nothing"),
      part: { name: "skeleton" },
    } as const;
    await assert.rejects(trees.run("copy", notThere), { code: "ENOENT" });
  });

  test("tells of a full disk as such", async () => {
    await using tmpfs = await mountTemporarily(
      [{ type: "tmpfs", source: "tmpfs", options: ["size=1m"] }],
      tmpdir(),
    );
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    await using trees = new Trees();
    writeFileSync(join(directory.path, "file"), Buffer.alloc(2_000_000, 1));
    const part = { name: "files", lane: 0, lanes: 1 } as const;
    await assert.rejects(
      trees.run("copy", { from: directory.path, to: tmpfs.path, part }),
      ResourceExhaustedError,
    );
  });

  test("deletes what it can and tells of the rest", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    await using trees = new Trees();
    fill(directory.path, 3);
    writeFileSync(join(directory.path, "no directory"), "");
    const paths = ["0", "no directory", "1", "gone"].map((name) => join(directory.path, name));
    const outcomes = await trees.run("remove", { paths, ...patiently });
    assert.deepEqual(
      outcomes.map((outcome) => (typeof outcome === "string" ? outcome : outcome.code)),
      ["gone", "ENOTDIR", "gone", "gone"],
    );
    assert.deepEqual(readdirSync(directory.path).sort(), ["2", "no directory"]);
  });

  test("stops deleting when its time is up, and goes on where it stopped", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    await using trees = new Trees();
    fill(directory.path, 200);
    const paths = [directory.path];
    assert.deepEqual(await trees.run("remove", { paths, maxMs: 0, isIdle: true }), ["unfinished"]);
    assert(existsSync(directory.path));
    assert.deepEqual(await trees.run("remove", { paths, ...patiently }), ["gone"]);
    assert(!existsSync(directory.path));
    mkdirSync(directory.path);
  });

  test("makes spare directories such as active snapshots have", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    await using trees = new Trees();
    await trees.run("spare", { directory: directory.path, ids: [3, 4] });
    assert.deepEqual(readdirSync(directory.path).sort(), ["3", "4"]);
    assert.deepEqual(readdirSync(join(directory.path, "3")).sort(), ["fs", "work"]);
  });

  test("writes a file system to its disk", async () => {
    await using trees = new Trees();
    await trees.run("sync", { path: tmpdir() });
    await assert.rejects(trees.run("sync", { path: join(tmpdir(), "no such directory") }), {
      code: "ENOENT",
    });
  });

  test("gives up everything when it is disposed of", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "trees-"));
    const trees = new Trees();
    fill(directory.path, 200);
    const jobs = Array.from({ length: 20 }, () => trees.run("measure", { path: directory.path }));
    const outcomes = Promise.allSettled(jobs);
    await trees[Symbol.asyncDispose]();
    for (const outcome of await outcomes) {
      assert(
        outcome.status === "fulfilled" || outcome.reason instanceof ServiceError,
        JSON.stringify(outcome),
      );
    }
    await assert.rejects(trees.run("measure", { path: directory.path }), UnavailableError);
    assert(existsSync(directory.path));
  });

  test("refuses to delete what is mounted, whichever thread does it", async () => {
    await using tmpfs = await mountTemporarily([{ type: "tmpfs", source: "tmpfs", options: [] }], tmpdir());
    await using trees = new Trees();
    const [outcome] = await trees.run("remove", { paths: [tmpfs.path], ...patiently });
    assert(typeof outcome === "object");
    assert.equal(outcome.reason, new FailedPreconditionError("").reason);
  });
});
