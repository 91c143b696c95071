import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import {
  FailedPreconditionError,
  NotFoundError,
  ResourceExhaustedError,
  ServiceError,
} from "@oci-worker/errdefs";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { readMountInfo } from "@oci-worker/mounts/mountinfo";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { settableClock } from "./peers/settable-clock.ts";
import { makeDisk } from "./peers/small-disk.ts";
import { startSnapshotter } from "./peers/snapshotter.ts";

const run = promisify(execFile);

const mebibyte = 1024 * 1024;

/** A committed snapshot that holds one file. */
async function commit(direct: Snapshotter, name: string, sizeBytes: number): Promise<void> {
  await using scratch = await mkdtempDisposable(join(tmpdir(), "scarcity-"));
  const mounts = await direct.prepare(`making ${name}`, undefined, {});
  {
    await using mounted = await mountTemporarily(mounts, scratch.path);
    await writeFile(join(mounted.path, "file"), Buffer.alloc(sizeBytes, 1));
  }
  await direct.commit(name, `making ${name}`, {});
}

async function names(direct: Snapshotter): Promise<string[]> {
  return (await Array.fromAsync(direct.walk([]))).map(({ name }) => name).sort();
}

for (const type of ["tmpfs", "ext4"] as const) {
  describe(`a full disk, ${type}`, () => {
    test("is told, loses nothing, lets snapshots be removed, and is over when there is room", async () => {
      await using disk = await makeDisk(type, 40);
      await using peer = await startSnapshotter("overlayfs", { directory: disk.path });
      const { direct } = peer;
      await commit(direct, "base", mebibyte);
      await direct.prepare("early", "base", {});
      await disk.fill();
      const labels = { l: "x".repeat(60_000) };
      const kept: string[] = [];
      const failure = await untilFailure(async (index) => {
        await direct.prepare(`late ${index}`, "base", labels);
        kept.push(`late ${index}`);
      });
      assert(failure instanceof ResourceExhaustedError, String(failure));
      assert.match(failure.message, /^Cannot write to disk: /);
      assert.deepEqual(await names(direct), ["base", "early", ...kept].sort());

      for (const how of ["kill", "stop"] as const) {
        await peer.restart(how);
        assert.deepEqual(await names(direct), ["base", "early", ...kept].sort());
      }
      await direct.remove("early");
      await direct.cleanup();
      await assert.rejects(direct.stat("early"), NotFoundError);
      await disk.empty();
      await direct.prepare("afterwards", "base", labels);
      await direct.commit("afterwards, committed", "afterwards", {});
    });

    test("ends a copy of native with nothing left of it", async () => {
      await using disk = await makeDisk(type, 40);
      await using peer = await startSnapshotter("native", { directory: disk.path });
      const { direct, root } = peer;
      await commit(direct, "base", 8 * mebibyte);
      const failure = await untilFailure((index) => direct.prepare(`copy ${index}`, "base", {}));
      assert(failure instanceof ResourceExhaustedError, String(failure));
      assert.match(failure.message, /^Cannot write to disk: ENOSPC/);
      await direct.cleanup();
      const left = await names(direct);
      assert.equal((await readdir(join(root, "snapshots"))).length, left.length);
      const [copy = ""] = left.filter((name) => name.startsWith("copy"));
      await direct.remove(copy);
      await direct.cleanup();
      await direct.prepare("afterwards", "base", {});
      const { sizeBytes } = await direct.usage("afterwards");
      assert(sizeBytes >= 8 * mebibyte, `${sizeBytes}`);
    });
  });
}

/** Repeats `step` until it fails, and gives the error. */
async function untilFailure(step: (index: number) => Promise<unknown>): Promise<unknown> {
  for (let index = 0; index < 10_000; index += 1) {
    try {
      await step(index);
    } catch (error) {
      return error;
    }
  }
  throw new Error("it goes on without an end");
}

describe("a read-only root", () => {
  test("is an error at the start that says so", async () => {
    await using disk = await makeDisk("tmpfs", 40);
    const remount = (mode: string) => run("mount", ["-o", `remount,${mode}`, disk.path]);
    const start = async () => {
      await using _peer = await startSnapshotter("overlayfs", { directory: disk.path });
    };
    const refusal =
      /^oci-snapshotter: Cannot use \/.*\/root: EROFS: .*want a directory that can be written to$/m;
    await remount("ro");
    await assert.rejects(start, refusal);
    await remount("rw");
    await start();
    await remount("ro");
    await assert.rejects(start, refusal);
  });

  test("that turns so is told by what changes something, and all else goes on", async () => {
    await using disk = await makeDisk("ext4", 40);
    await using peer = await startSnapshotter("overlayfs", { directory: disk.path });
    const { direct } = peer;
    await commit(direct, "base", mebibyte);
    await direct.prepare("early", "base", {});
    const mounts = await direct.mounts("early");
    await failFileSystem(disk.path);

    const refused: (() => Promise<unknown>)[] = [
      () => direct.prepare("late", "base", {}),
      () => direct.prepare("late", undefined, {}),
      () => direct.view("late", "base", {}),
      () => direct.update("early", { merge: { l: "1" } }),
      () => direct.commit("late", "early", {}),
      () => direct.remove("early"),
    ];
    for (const call of refused) {
      await assert.rejects(call, (error) => {
        const isExpected =
          error instanceof FailedPreconditionError ||
          (error instanceof ServiceError && error.reason === "INTERNAL");
        assert(isExpected, String(error));
        assert.match(error.message, /^Cannot write to disk: /);
        return true;
      });
    }
    assert.deepEqual(await names(direct), ["base", "early"]);
    assert.deepEqual(await direct.mounts("early"), mounts);
    assert.equal((await direct.usage("base")).inodes, 2n);
    await direct.cleanup();
  });
});

/** Has ext4 do what it does with `errors=remount-ro` when it finds an inconsistency (ext4(5)). */
async function failFileSystem(path: string): Promise<void> {
  const device = (await readMountInfo()).find(({ mountPoint }) => mountPoint === path)?.source ?? "";
  await writeFile(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, "1");
}

describe("a limit of open files that is reached", () => {
  test("is told, with what to do about it, and is over when there is room", async () => {
    await using peer = await startSnapshotter("native");
    const { direct, root } = peer;
    await commit(direct, "base", mebibyte);
    await direct.prepare("early", "base", {});
    const refused: (() => Promise<unknown>)[] = [
      () => direct.prepare("late", "base", {}),
      () => direct.usage("early"),
      () => direct.commit("late", "early", {}),
    ];
    // With a thread that copies, and, after a restart, without one.
    for (const hasThread of [true, false]) {
      if (!hasThread) {
        await peer.restart("stop");
        await direct.stat("early");
      }
      const limit = await limitOpenFiles(peer.pid, (await readdir(`/proc/${peer.pid}/fd`)).length);
      for (const call of refused) {
        await assert.rejects(call, (error) => {
          assert(error instanceof ResourceExhaustedError, String(error));
          assert.match(error.message, /^Cannot open another file: .*, want a higher limit of open files/);
          return true;
        });
      }
      assert.deepEqual(await names(direct), ["base", "early"]);
      await direct.update("early", { merge: { l: String(hasThread) } });
      await limitOpenFiles(peer.pid, limit);
    }
    await direct.prepare("late", "base", {});
    await direct.commit("afterwards", "early", {});
    await direct.cleanup();
    assert.equal((await readdir(join(root, "snapshots"))).length, 3);
  });
});

/** Sets how many files a process may have open (prlimit(1)), and gives the limit that it had. */
async function limitOpenFiles(pid: number, count: number): Promise<number> {
  const about = ["--pid", String(pid)];
  const { stdout } = await run("prlimit", [...about, "--nofile", "--noheadings", "--raw", "--output=SOFT"]);
  await run("prlimit", [...about, `--nofile=${count}:`]);
  return Number(stdout);
}

describe("a clock that is set back", () => {
  test("orders no change before the snapshot that it is made to, and stops nothing", async () => {
    await using clock = await settableClock();
    await using peer = await startSnapshotter("overlayfs", { environment: clock.environment });
    const { direct } = peer;
    await commit(direct, "base", 0);
    await direct.prepare("early", "base", {});
    const before = await direct.stat("early");

    await clock.set("-30d");
    const updated = await direct.update("early", { merge: { l: "1" } });
    assert.equal(updated.createdAtNs, before.createdAtNs);
    assert(updated.updatedAtNs >= updated.createdAtNs);
    await direct.prepare("late", "base", {});
    const late = await direct.stat("late");
    // Or else the clock is not the one that was set, and nothing is proven.
    assert(late.createdAtNs < before.createdAtNs - 29n * 86_400_000_000_000n, String(late.createdAtNs));
    await direct.commit("late, committed", "late", {});
    await direct.remove("late, committed");
    await direct.cleanup();
    await peer.restart("kill");
    assert.deepEqual(await names(direct), ["base", "early"]);
    await direct.prepare("afterwards", "base", {});
  });
});
