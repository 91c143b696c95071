import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { directoriesInUse } from "./directories-in-use.ts";
import { mountTemporarily } from "./mount.ts";
import { readMountsAndServed, servedBy } from "./served-overlays.ts";

describe("an overlay that fuse-overlayfs serves", () => {
  test("has the directories that it is made of in use, until it is unmounted", async () => {
    await using scene = await mkdtempDisposable(join(tmpdir(), "served-"));
    const snapshots = join(scene.path, "snapshots");
    for (const name of ["1/fs", "2/fs", "3/fs", "3/work", "4/fs"]) {
      await mkdir(join(snapshots, name), { recursive: true });
    }
    const inUse = async () => Object.fromEntries(directoriesInUse(await readMountsAndServed(), snapshots));
    const options = [
      `lowerdir=${snapshots}/2/fs:${snapshots}/1/fs`,
      `upperdir=${snapshots}/3/fs`,
      `workdir=${snapshots}/3/work`,
    ];
    {
      const overlay = { type: "fuse3.fuse-overlayfs", source: "overlay", options };
      await using mounted = await mountTemporarily([overlay], scene.path);
      const at = [mounted.path];
      assert.deepEqual(await inUse(), { 1: at, 2: at, 3: at });
    }
    assert.deepEqual(await inUse(), {});
  });

  test("is found in each form of the command line", () => {
    const told = { type: "overlay", source: "fuse-overlayfs", device: "", root: "" };
    const cases: readonly (readonly [words: string[], mountPoint: string, options: string[]])[] = [
      [["overlay", "/m", "-o", "lowerdir=/a:/b,dev"], "/m", ["lowerdir=/a:/b", "dev"]],
      [["-o", "lowerdir=/a", "-f", "-oupperdir=/u", "/m"], "/m", ["lowerdir=/a", "upperdir=/u"]],
      [["/m"], "/m", []],
    ];
    for (const [words, mountPoint, options] of cases) {
      const commandLine = ["fuse-overlayfs", ...words, ""].join("\0");
      assert.deepEqual(servedBy(commandLine), { ...told, mountPoint, options });
    }
    assert.equal(servedBy("fuse-overlayfs\0--version\0"), undefined);
    assert.equal(servedBy(""), undefined);
  });
});
