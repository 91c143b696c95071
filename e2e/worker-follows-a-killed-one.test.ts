import assert from "node:assert/strict";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BuildKitClient } from "@oci-worker/client";
import { childrenOf, startProcess, untilGone } from "./peers/process.ts";
import { assertNothingLeft, workerPlace, workerProgram } from "./peers/worker.ts";

const waiting = /"msg":"waiting for the child of an earlier worker to end"/;

test("a worker waits for the children of a killed one, and names them", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
  const place = workerPlace(directory.path);
  const program = await workerProgram(place);
  const first = await startProcess(program);
  const old = await childrenOf(first.pid);
  assert.equal(old.length, 2);
  await using stopped = new AsyncDisposableStack();
  for (const pid of old) {
    process.kill(pid, "SIGSTOP");
    stopped.defer(() => void process.kill(pid, "SIGCONT"));
  }
  await first.crash();
  await using second = await startProcess({ ...program, ready: waiting });
  for (const name of ["snapshotter", "resolver"]) {
    const line = await second.said(new RegExp(`"child":"${name}".*${waiting.source}`));
    const { pid } = JSON.parse(line);
    assert(old.includes(Number(pid)), line);
    assert.match(await readFile(`/proc/${pid}/cmdline`, "utf8"), new RegExp(`/${name}/`));
  }
  assert.deepEqual(await childrenOf(second.pid), [], "it has started a child beside one that still runs");
  await stopped.disposeAsync();
  await second.said(program.ready);
  await Promise.all(old.map(untilGone));
  assert.equal((await childrenOf(second.pid)).length, 2);
  await using client = new BuildKitClient(place.address);
  assert.equal((await client.workers()).length, 1);
  assert.equal(await second.stop(), 0);
  await assertNothingLeft(place, true);
});

test("a worker that is started again and again, each time at once, comes to serve each time", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
  const place = workerPlace(directory.path);
  const program = await workerProgram(place);
  let old: number[] = [];
  for (let starts = 0; starts < 4; starts += 1) {
    const worker = await startProcess(program);
    const commandLines = old.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""));
    assert.deepEqual(
      await Promise.all(commandLines),
      old.map(() => ""),
      "a child of a killed worker runs",
    );
    old = await childrenOf(worker.pid);
    assert.equal(old.length, 2);
    await worker.crash();
  }
  await Promise.all(old.map(untilGone));
});
