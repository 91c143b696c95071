import assert from "node:assert/strict";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BuildKitClient } from "@oci-worker/client";
import { NotFoundError } from "@oci-worker/errdefs";
import { digestOf } from "@oci-worker/oci/digest";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { childrenOf, startProcess, untilGone } from "./peers/process.ts";
import { assertNothingLeft, snapshotsOf, workerPlace, workerProgram } from "./peers/worker.ts";

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

test("a worker learns of all snapshots in one list, and keeps those that can be of use", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "worker-"));
  const place = workerPlace(directory.path);
  const program = await workerProgram(place, { config: "[worker.oci]\ngc = false\n" });
  /** Which calls the snapshotter has answered when a worker has started after `prepare`, and what that knows then. */
  const startAfter = async (prepare: (snapshotter: Snapshotter) => Promise<void>) => {
    const open = () => openProxy(join(place.root, "snapshotter.sock"), { snapshotter: "auto" });
    {
      await using _worker = await startProcess(program);
      await using snapshotter = open();
      await prepare(snapshotter);
    }
    await using worker = await startProcess(program);
    await using snapshotter = open();
    await assert.rejects(snapshotter.stat("marker"), NotFoundError);
    await worker.said(/Snapshots\/Stat"/);
    const lines = worker.log.join("\n").split('Snapshots/Stat"')[0] ?? "";
    const calls = [...lines.matchAll(/Snapshots\/(\w+)"/g)].map(([, method]) => method).sort();
    await using client = new BuildKitClient(place.address);
    const known = (await client.diskUsage()).map(({ id }) => id).sort();
    const snapshots = (await snapshotsOf(place)).map(({ name }) => name).sort();
    return { calls, known, snapshots };
  };
  const empty = await startAfter(() => Promise.resolve());
  assert.deepEqual(empty.snapshots, []);
  assert.equal(empty.calls.filter((call) => call === "List").length, 1);
  const layers = Array.from({ length: 250 }, (_, index) => digestOf(`layer ${index}`));
  const full = await startAfter(async (snapshotter) => {
    for (const layer of layers) {
      await snapshotter.prepare(`extract-${layer}`, undefined, {});
      await snapshotter.commit(layer, `extract-${layer}`, {});
    }
    await snapshotter.prepare("work-1", layers[0], {});
    await snapshotter.prepare("result-of-nothing", layers[0], {});
    await snapshotter.commit("result-1", "result-of-nothing", {});
  });
  assert.deepEqual(full.known, layers.toSorted());
  assert.deepEqual(full.snapshots, layers.toSorted());
  assert.deepEqual(full.calls, [...empty.calls, "Remove", "Remove"].sort(), "calls grow with the snapshots");
  const again = await startAfter(async (snapshotter) => {
    for (const layer of layers.slice(0, 10)) {
      await snapshotter.remove(layer);
    }
  });
  assert.deepEqual(again.known, layers.slice(10).toSorted());
  assert.deepEqual(again.calls, empty.calls);
});
