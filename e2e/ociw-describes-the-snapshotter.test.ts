import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { startContainerd } from "./peers/containerd.ts";
import { backends, startSnapshotter } from "./peers/snapshotter.ts";

const program = join(import.meta.dirname, "../services/ociw/bin/ociw");

async function describeAt(address: string, ...args: string[]): Promise<string> {
  const all = ["snapshotter", "--snapshotter-address", address, ...args];
  return (await promisify(execFile)(program, all)).stdout;
}

describe("ociw layers", () => {
  const layersAt = async (address: string, ...args: string[]) =>
    (await promisify(execFile)(program, ["layers", "--snapshotter-address", address, ...args])).stdout;

  test("says that a backend has no lazy layers", async () => {
    await using peer = await startSnapshotter("overlayfs");
    assert.match(await layersAt(peer.address), /no lazy layers/);
    assert.deepEqual(JSON.parse(await layersAt(peer.address, "--json")), { layers: [], passedOver: [] });
  });
});

describe("ociw snapshotter", () => {
  test("tells the backend and why it is that one, to people and to programs", async () => {
    await using peer = await startSnapshotter("fuse-overlayfs");
    const shown = await describeAt(peer.address);
    assert.match(shown, /^Backend: +fuse-overlayfs \(configured; asked for: fuse-overlayfs\)$/m);
    assert.match(shown, /^Client: +none yet$/m);
    assert.match(shown, /^native +not tried +-$/m);
    const told = JSON.parse(await describeAt(peer.address, "--json"));
    assert.deepEqual([told.backend, told.root, told.processID], ["fuse-overlayfs", peer.root, peer.pid]);
  });

  for (const backend of backends) {
    test(`tells of a snapshot of ${backend} where it is mounted and what keeps it`, async () => {
      await using peer = await startSnapshotter(backend);
      const info = async (...args: string[]) =>
        (
          await promisify(execFile)(program, ["snapshots", "info", ...args], {
            env: { ...process.env, OCI_WORKER_SNAPSHOTTER_ADDRESS: peer.address },
          })
        ).stdout;
      const { direct } = peer;
      await direct.prepare("filling", undefined, {});
      await direct.commit("base", "filling", {});
      const mounts = await direct.prepare("container", "base", {});
      await using scratch = await mkdtempDisposable(join(tmpdir(), "described-"));
      {
        await using mounted = await mountTemporarily(mounts, scratch.path);
        const told = await info("container");
        assert.match(told, new RegExp(`^Directory: +${peer.root}/snapshots/\\d+$`, "m"));
        assert.match(told, new RegExp(`^Mounted: +${mounted.path}$`, "m"));
      }
      const [told] = JSON.parse(await info("--json", "base"));
      assert.deepEqual(told.mountPoints, []);
      assert.match(told.removalObstacle, /"container" has it as parent/);
    });
  }

  test("says so of a snapshotter that does not tell", async () => {
    await using containerd = await startContainerd();
    await assert.rejects(describeAt(containerd.address), /it is no oci-snapshotter/);
  });
});
