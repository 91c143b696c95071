import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { startContainerd } from "./peers/containerd.ts";
import { startSnapshotter } from "./peers/snapshotter.ts";

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
    assert.match(shown, /^native +not tried +-$/m);
    const told = JSON.parse(await describeAt(peer.address, "--json"));
    assert.deepEqual([told.backend, told.root, told.processID], ["fuse-overlayfs", peer.root, peer.pid]);
  });

  test("says so of a snapshotter that does not tell", async () => {
    await using containerd = await startContainerd();
    await assert.rejects(describeAt(containerd.address), /it is no oci-snapshotter/);
  });
});
