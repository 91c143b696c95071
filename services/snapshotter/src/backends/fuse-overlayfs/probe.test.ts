import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, test } from "node:test";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { FuseOverlayfs } from "./fuse-overlayfs.ts";
import { probeFuseOverlayfs } from "./probe.ts";

const path = process.env["PATH"];

async function obstacleOn(root: string): Promise<string> {
  const finding = await probeFuseOverlayfs(root);
  assert("obstacle" in finding, "want an obstacle");
  return finding.obstacle;
}

describe("probeFuseOverlayfs", () => {
  afterEach(() => {
    process.env["PATH"] = path;
  });

  test("finds no obstacle on a file system that can, and leaves nothing there", async () => {
    await using tmpfs = await mountTemporarily([{ type: "tmpfs", source: "tmpfs", options: [] }], tmpdir());
    assert((await probeFuseOverlayfs(tmpfs.path)) instanceof FuseOverlayfs);
    assert.deepEqual(await readdir(tmpfs.path), []);
    assert.deepEqual(await mountPointsBeneath(tmpfs.path), [tmpfs.path]);
  });

  test("tells that the program is missing", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "probe-"));
    process.env["PATH"] = directory.path;
    assert.match(await obstacleOn(directory.path), /fuse-overlayfs: not found/);
    assert.deepEqual(await readdir(directory.path), []);
  });

  test("names the character of a path that mount options cannot hold", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "probe-"));
    const root = join(directory.path, "a:b");
    await mkdir(root);
    assert.match(await obstacleOn(root), /separates options/);
  });
});
