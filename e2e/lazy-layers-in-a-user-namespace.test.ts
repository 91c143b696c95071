import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import type { Mount } from "@oci-worker/mounts/mount";
import { withLazyContainerd } from "./peers/lazy-images.ts";
import { killAfter, treeAt, unpackedTree } from "./peers/tree.ts";
import { changingLayers, members } from "./peers/tree-members.ts";
import { startUserNamespace } from "./peers/user-namespace.ts";

const execute = promisify(execFile);

test("a snapshotter without rights over the machine serves lazy layers by FUSE, for overlays with userxattr", async () => {
  await using namespace = await startUserNamespace();
  const { enter } = namespace;
  await using directory = await mkdtempDisposable(join(tmpdir(), "rootless-"));
  const inside = async (...command: string[]) => {
    const [program, ...args] = [...killAfter, ...enter, ...command];
    return (await execute(program, args)).stdout;
  };
  const mount = async ([{ type, source, options }]: readonly [Mount], target: string) => {
    await execute("mkdir", ["-p", target]);
    await inside("mount", "-t", type, "-o", options.join(), source, target);
  };
  await withLazyContainerd({ members, between: changingLayers(5), enter }, async (on) => {
    // It unpacks nothing, and so mounts nothing.
    await on.rpull();
    const { direct } = on.snapshotter;
    const { mode, passedOver } = await on.layers();
    assert.equal(mode, "fuse");
    assert.deepEqual(
      passedOver.map((each) => each.mode),
      ["erofs", "erofs-loop"],
    );
    assert.match(passedOver[0]?.obstacle ?? "", /EPERM/);
    assert.match(await on.ociw("layers"), /^Mounted by fuse \(erofs: .*EPERM.*; erofs-loop: .*\)\n/);
    assert.match(await on.ociw("snapshotter"), /^Lazy layers: +by fuse \(erofs: .*EPERM.*\)$/m);

    const top = on.chain.at(-1) ?? "";
    const expected = await unpackedTree(on.image, on.chain);
    const [view] = await direct.view("look", top, { "containerd.io/gc.root": "test" });
    assert(view?.type === "overlay" && view.options.includes("userxattr"), JSON.stringify(view));
    const seen = join(directory.path, "seen");
    await mount([view], seen);
    // What is read has to come from the next process, which finds what the first one has mounted.
    await on.snapshotter.restart("kill");
    assert.deepEqual(await treeAt(seen, enter), expected);

    const [active] = await direct.prepare("work", top, { "containerd.io/gc.root": "test" });
    assert(active);
    const written = join(directory.path, "written");
    await mount([active], written);
    await inside(
      "sh",
      "-c",
      `cd ${written} && echo more >> data/noted && rm data/big && rm -r many && mkdir many`,
    );
    await inside("umount", written);
    await direct.commit("worked", "work", { "containerd.io/gc.root": "test" });
    const [changed] = await direct.view("look again", "worked", { "containerd.io/gc.root": "test" });
    assert(changed);
    await mount([changed], written);
    const script = `cd ${written} && cat data/noted && ls many && md5sum data/linked && ls data/big`;
    await assert.rejects(
      inside("sh", "-c", script),
      ({ stdout, stderr }: { stdout: string; stderr: string }) => {
        assert.match(stdout, /^ymore\n[0-9a-f]{32} {2}data\/linked\n$/);
        assert.match(stderr, /data\/big.*No such file/);
        return true;
      },
    );
    for (const path of [seen, written]) {
      await inside("umount", path);
    }
    for (const key of ["look", "look again", "worked", ...on.chain.toReversed()]) {
      await direct.remove(key);
    }
    await direct.cleanup();
    assert.doesNotMatch(
      await inside("cat", "/proc/self/mountinfo"),
      new RegExp(`${on.snapshotter.root}/snapshots`),
    );
  });
});
