import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { lgetxattr, llistxattr } from "@oci-worker/libc/xattr";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import { apply, directory, file, hardLink, makeScene, symlink } from "./scene.ts";

const at = (scene: { root: string }, path: string) => join(scene.root, path);
const mode = (path: string) => statSync(path).mode & 0o7777;

describe("the entries of a layer", () => {
  test("leave the root's own metadata as it is", async () => {
    await using scene = await makeScene();
    await apply(scene, [{ ...directory("./", 0o700), uid: 7 }, directory(".", 0o700), file("./f")]);
    assert.equal(mode(scene.root), 0o755);
    assert.equal(statSync(scene.root).uid, 0);
  });

  test("keep setuid, setgid and sticky bits beside their owners", async () => {
    await using scene = await makeScene();
    await apply(scene, [
      { ...file("su", "", 0o6755), uid: 1000, gid: 1001 },
      { ...directory("sticky", 0o3777), uid: 12 },
      { type: "fifo", name: "pipe", mode: 0o4600, uid: 5 },
    ]);
    assert.deepEqual([mode(at(scene, "su")), statSync(at(scene, "su")).gid], [0o6755, 1001]);
    assert.deepEqual([mode(at(scene, "sticky")), statSync(at(scene, "sticky")).uid], [0o3777, 12]);
    assert.equal(mode(at(scene, "pipe")), 0o4600);
  });

  test("do not depend on the umask", async () => {
    await using scene = await makeScene();
    const before = process.umask(0o777);
    try {
      await apply(scene, [directory("d", 0o777), file("d/f", "f", 0o666), file("implied/f", "f")]);
    } finally {
      process.umask(before);
    }
    assert.deepEqual(
      ["d", "d/f", "implied"].map((path) => mode(at(scene, path))),
      [0o777, 0o666, 0o755],
    );
  });

  test("a hard link gives owner, mode and time to the file that it shares", async () => {
    await using scene = await makeScene();
    const link = { ...hardLink("two", "one"), mode: 0o600, uid: 9, modifiedNs: 5n };
    await apply(scene, [file("one", "", 0o755), link]);
    const found = statSync(at(scene, "one"), { bigint: true });
    assert.deepEqual([found.mode & 0o777n, found.uid, found.mtimeNs, found.nlink], [0o600n, 9n, 5n, 2n]);
  });

  test("of one name: the last wins", async () => {
    await using scene = await makeScene();
    await apply(scene, [
      file("f", "one"),
      file("g", "g"),
      file("f", "second"),
      symlink("s", "x"),
      symlink("s", "y"),
    ]);
    assert.equal(readFileSync(at(scene, "f"), "utf8"), "second");
  });

  test("replace what is of another type, and merge directories", async () => {
    await using scene = await makeScene();
    await apply(scene, [
      directory("a/full"),
      file("a/full/f"),
      file("b"),
      directory("c"),
      file("c/kept", "kept"),
    ]);
    await apply(scene, [file("a", "now a file"), directory("b"), file("b/f"), directory("c", 0o700)]);
    assert.equal(readFileSync(at(scene, "a"), "utf8"), "now a file");
    assert.deepEqual(readdirSync(at(scene, "b")), ["f"]);
    assert.deepEqual([mode(at(scene, "c")), readFileSync(at(scene, "c/kept"), "utf8")], [0o700, "kept"]);
  });

  test("have their directories made where no entry describes them, links to nothing followed", async () => {
    await using scene = await makeScene();
    await apply(scene, [
      file("x/y/z/f", "f"),
      symlink("var/run", "../run/now"),
      symlink("run", "./system/run"),
      file("var/run/lock/pid", "1"),
    ]);
    assert.deepEqual([mode(at(scene, "x")), mode(at(scene, "x/y/z"))], [0o755, 0o755]);
    assert.equal(readFileSync(at(scene, "system/run/now/lock/pid"), "utf8"), "1");
  });

  test("keep the times of directories that are filled later", async () => {
    await using scene = await makeScene();
    const time = 1_500_000_000_123_456_789n;
    await apply(scene, [
      { ...directory("d"), modifiedNs: 1n },
      { ...directory("d"), modifiedNs: time },
      { ...directory("d/e"), modifiedNs: time + 1n },
      file("d/e/f"),
      file("d/.wh.g"),
      { ...directory("gone"), modifiedNs: time },
      file(".wh.gone"),
      { ...directory("replaced"), modifiedNs: time },
      { ...symlink("replaced", "d"), modifiedNs: 7n },
    ]);
    const times = ["d", "d/e", "replaced"].map(
      (path) => lstatSync(at(scene, path), { bigint: true }).mtimeNs,
    );
    assert.deepEqual(times, [time, time + 1n, 7n]);
  });

  test("may put something else in the place of directories that have been described", async () => {
    await using scene = await makeScene();
    await apply(scene, [
      ...["a", "a/b", "c", "c/d", "e", "e/f"].map((path) => directory(path)),
      file("a", "a file"),
      symlink("c", "c"),
      file(".wh.e"),
    ]);
    assert.deepEqual(readdirSync(scene.root).sort(), ["a", "c"]);
  });

  test("have 1970 for times that the kernel cannot count, and are accessed no earlier than modified", async () => {
    await using scene = await makeScene();
    const early = { ...file("early"), modifiedNs: -1n };
    await apply(scene, [
      early,
      { ...file("late"), modifiedNs: 2n ** 63n },
      { ...file("now"), modifiedNs: 3n },
    ]);
    const times = (path: string) => statSync(at(scene, path), { bigint: true });
    assert.deepEqual(
      ["early", "late"].map((path) => times(path).mtimeNs),
      [0n, 0n],
    );
    assert.deepEqual([times("now").atimeNs, times("now").mtimeNs], [3n, 3n]);
  });

  test("do not set attributes of the host and of overlayfs, nor user attributes where none can be, and say so", async () => {
    await using scene = await makeScene();
    const xattrs = (...names: string[]) => Object.fromEntries(names.map((name) => [name, Buffer.from("v")]));
    const applied = await apply(scene, [
      {
        ...file("f"),
        xattrs: xattrs("user.mine", "trusted.overlay.opaque", "trusted.x", "user.overlay.opaque"),
      },
      { ...directory("d"), xattrs: xattrs("trusted.overlay.redirect", "user.mine") },
      { ...symlink("s", "f"), xattrs: xattrs("user.mine") },
    ]);
    assert.deepEqual(llistxattr(at(scene, "f")), ["user.mine"]);
    assert.deepEqual(llistxattr(at(scene, "d")), ["user.mine"]);
    assert.equal(applied.skippedCount, 5);
    assert.deepEqual(
      applied.skipped.map(({ entry }) => entry),
      ['"f"', '"f"', '"f"', '"d/"', '"s"'],
    );
    assert.match(
      applied.skipped[0]?.why ?? "",
      /"trusted.overlay.opaque": trusted attributes are the host's/,
    );
  });

  test("tell of no more than a hundred things that were skipped, but count them all", async () => {
    await using scene = await makeScene();
    const xattrs = Object.fromEntries(
      Array.from({ length: 150 }, (_, i) => [`trusted.${i}`, Buffer.from("v")]),
    );
    const applied = await apply(scene, [{ ...file("f"), xattrs }]);
    assert.deepEqual([applied.skipped.length, applied.skippedCount], [100, 150]);
  });

  test("get their capabilities after their owner", async () => {
    await using scene = await makeScene();
    // cap_net_raw, permitted and effective, revision 2 (linux/capability.h).
    const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
    await apply(scene, [
      { ...file("ping", "", 0o755), uid: 3, xattrs: { "security.capability": capability } },
    ]);
    assert.deepEqual(lgetxattr(at(scene, "ping"), "security.capability"), capability);
  });

  test("on a file system without attributes are told of as skipped", async () => {
    await using scene = await makeScene();
    const applied = await apply(scene, [
      { ...file("f", "", 0o644), xattrs: { "bogus.name": Buffer.from("v") } },
    ]);
    assert.match(applied.skipped[0]?.why ?? "", /the file system has no such attributes/);
  });

  test("that the kernel has no device for are refused on overlayfs, where they would hide files", async () => {
    await using scene = await makeScene("overlay");
    await assert.rejects(apply(scene, [{ type: "character device", name: "null" }]), /entry "null": EPERM/);
  });

  test("in a user namespace do without devices, which are told of", async () => {
    await using scene = await makeScene();
    const script = `
      const { apply, makeScene, file } = await import(${JSON.stringify(new URL("./scene.ts", import.meta.url).href)});
      await using scene = await makeScene();
      const members = [{ type: "block device", name: "disk", deviceMajor: 8 }, { type: "fifo", name: "pipe" }, file("f", "x")];
      const { skipped, entries } = await apply(scene, members);
      process.stdout.write(JSON.stringify({ skipped, entries }));
    `;
    const args = [
      "--user",
      "--map-root-user",
      "--mount",
      process.execPath,
      "--input-type=module",
      "--eval",
      script,
    ];
    const { stdout, stderr, status } = spawnSync("unshare", args, { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), {
      entries: 3,
      skipped: [{ entry: '"disk"', why: "a block device cannot be made in a user namespace" }],
    });
    assert.equal(readdirSync(scene.root).length, 0);
  });
});

describe("a disk or mount that does not let us", () => {
  test("a full file system is ResourceExhausted, naming the entry", async () => {
    await using scene = await makeScene();
    await mountAll([{ type: "tmpfs", source: "tmpfs", options: ["size=64k"] }], scene.root);
    await using undo = new AsyncDisposableStack();
    undo.defer(() => unmount(scene.root));
    await assert.rejects(
      apply(scene, [file("small", "s"), file("big", "b".repeat(200_000))]),
      (error) => error instanceof ResourceExhaustedError && /entry "big": ENOSPC/.test(error.message),
    );
  });

  test("a file system that is read-only is FailedPrecondition", async () => {
    await using scene = await makeScene();
    execFileSync("mount", ["-o", "remount,ro", scene.root]);
    await assert.rejects(
      apply(scene, [file("f")]),
      (error) => error instanceof FailedPreconditionError && /EROFS/.test(error.message),
    );
  });

  test("a mount in place of an entry is FailedPrecondition", async () => {
    await using scene = await makeScene("bind");
    writeFileSync(at(scene, "busy"), "");
    await mountAll(
      [{ type: "bind", source: join(scene.outside, "secret"), options: ["bind"] }],
      at(scene, "busy"),
    );
    await using undo = new AsyncDisposableStack();
    undo.defer(() => unmount(at(scene, "busy")));
    await assert.rejects(apply(scene, [file("busy", "mine")]), FailedPreconditionError);
    assert.equal(readFileSync(at(scene, "busy"), "utf8"), "secret");
  });

  test("a symbolic link to nothing at all is refused", async () => {
    await using scene = await makeScene();
    mkdirSync(at(scene, "d"));
    await assert.rejects(apply(scene, [symlink("d/s", "")]), InvalidArgumentError);
  });
});
