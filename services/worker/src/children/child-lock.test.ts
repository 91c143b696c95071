import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UnavailableError } from "@oci-worker/errdefs";
import { pino } from "pino";
import { ChildLock } from "./child-lock.ts";

const log = pino({ level: "silent" });

test("a child keeps the lock that it has been given, and a second one is told which process that is", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "child-lock-"));
  const options = { path: join(directory.path, "x.lock"), name: "snapshotter", log };
  const first = await ChildLock.take({ ...options, patienceMs: 0 });
  const child = spawn("cat", { stdio: ["pipe", "ignore", "inherit", first.fd] });
  const gone = once(child, "exit");
  try {
    await first.noteHolder(child.pid ?? 0);
    // As the end of our process would.
    await first[Symbol.asyncDispose]();
    await assert.rejects(ChildLock.take({ ...options, patienceMs: 0 }), (error) => {
      assert(error instanceof UnavailableError);
      assert.match(
        error.message,
        new RegExp(`Cannot start snapshotter: process ${child.pid}, which an earlier`),
      );
      return true;
    });
    const second = ChildLock.take({ ...options, patienceMs: Number.POSITIVE_INFINITY });
    child.stdin?.end();
    await using _lock = await second;
  } finally {
    child.kill();
    await gone;
  }
});
