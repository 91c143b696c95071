import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, unlinkSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError, InvalidArgumentError } from "@oci-worker/errdefs";
import { asFileOwner } from "@oci-worker/libc/file-owner";
import { type Mount, mountAll, mountTemporarily, unmount } from "./mount.ts";
import { mountPointsBeneath, unmountBeneath } from "./mountinfo.ts";
import { openOwnerMap } from "./owner-map.ts";

/** Two ranges: what is root's and what is user 1000's are apart on the host, and user 1001 is nobody's. */
const texts = { uids: "0:100000:1000,1000:300000:1", gids: "0:200000:2000" };

async function scene() {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "owners-")));
  undo.defer(async () => void (await unmountBeneath(path)));
  const at = (name: string) => join(path, name);
  for (const name of ["lower/home", "other", "snapshot/fs", "snapshot/work", "at"]) {
    mkdirSync(at(name), { recursive: true });
  }
  writeFileSync(at("lower/root"), "root's");
  writeFileSync(at("lower/user"), "user's");
  chownSync(at("lower/user"), 1000, 1000);
  // Of a user, and closed to everybody else.
  chownSync(at("lower/home"), 1000, 1000);
  chmodSync(at("lower/home"), 0o700);
  const map = undo.use(await openOwnerMap(texts));
  const owned = undo.move();
  return { path, at, map, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function ownerOf(...names: string[]): string {
  const { uid, gid } = lstatSync(join(...names));
  return `${uid}:${gid}`;
}

function overlay(type: string, at: (name: string) => string): Mount {
  const [lower, other, upper, work] = ["lower", "other", "snapshot/fs", "snapshot/work"].map(at);
  return {
    type,
    source: "overlay",
    options: [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower}:${other}`],
  };
}

describe("a mount with an owner map", () => {
  test("that is a bind shows other ids, and keeps those on the disk as they are", async () => {
    await using on = await scene();
    const mounts = [{ type: "bind", source: on.at("lower"), options: ["rbind", "rw"] }];
    await using mounted = await mountTemporarily(mounts, on.path, on.map);
    assert.equal(ownerOf(mounted.path, "root"), "100000:200000");
    assert.equal(ownerOf(mounted.path, "user"), "300000:201000");
    asFileOwner(100_005, 200_006, () => writeFileSync(join(mounted.path, "new"), ""));
    assert.equal(ownerOf(on.at("lower/new")), "5:6");
  });

  test("that is a read-only bind can only be read", async () => {
    await using on = await scene();
    const mounts = [{ type: "bind", source: on.at("lower"), options: ["rbind", "ro"] }];
    await using mounted = await mountTemporarily(mounts, on.path, on.map);
    assert.equal(ownerOf(mounted.path, "root"), "100000:200000");
    assert.throws(() => asFileOwner(100_000, 200_000, () => writeFileSync(join(mounted.path, "x"), "")), {
      code: "EROFS",
    });
  });

  for (const type of ["overlay", "fuse3.fuse-overlayfs"]) {
    test(`whose type is ${type} is written to with other ids, which do not reach the disk`, async () => {
      await using on = await scene();
      await mountAll([overlay(type, on.at)], on.at("at"), on.map);
      const inside = (name: string) => join(on.at("at"), name);
      assert.equal(ownerOf(inside("root")), "100000:200000");
      assert.equal(ownerOf(inside("user")), "300000:201000");
      // By a root that is one only there, and a program of its own: what another one serves must not be waited for in here.
      const script = "echo x >new; echo y >>user; chown 1000:1000 root; mkdir home/made; rm user";
      const namespace = `--user=/proc/${process.pid}/fd/${on.map.userNamespace}`;
      execFileSync("nsenter", [namespace, "sh", "-ec", script], { cwd: on.at("at") });
      await unmount(on.at("at"));
      const stored = on.at("snapshot/fs");
      assert.deepEqual(readdirSync(stored).sort(), ["home", "new", "root", "user"]);
      assert.equal(ownerOf(stored, "new"), "0:0");
      assert.equal(ownerOf(stored, "root"), "1000:1000");
      assert.equal(ownerOf(stored, "home"), "1000:1000");
      assert.equal(ownerOf(stored, "home/made"), "0:0");
      assert(lstatSync(join(stored, "user")).isCharacterDevice(), "what was removed is marked so");
      assert.equal(ownerOf(stored, "user"), "0:0");
      assert.equal(ownerOf(on.at("lower/user")), "1000:1000");
      assert.deepEqual(await mountPointsBeneath(on.path), []);
    });
  }

  test("that is a volatile overlay is one", async () => {
    await using on = await scene();
    const { options, ...mount } = overlay("overlay", on.at);
    await mountAll([{ ...mount, options: [...options, "volatile"] }], on.at("at"), on.map);
    asFileOwner(100_000, 200_000, () => unlinkSync(join(on.at("at"), "root")));
    await unmount(on.at("at"));
    assert(lstatSync(on.at("snapshot/work/work/incompat/volatile")).isDirectory());
    assert.equal(ownerOf(on.at("snapshot/work/work/incompat")), "0:0");
  });

  test("that is of another kind is mapped as a whole", async () => {
    await using on = await scene();
    const mounts = [{ type: "tmpfs", source: "tmpfs", options: ["mode=755"] }];
    await using mounted = await mountTemporarily(mounts, on.path, on.map);
    assert.equal(ownerOf(mounted.path), "100000:200000");
  });

  test("shows ids that it has nothing for as nobody's, who cannot be taken in", async () => {
    await using on = await scene();
    writeFileSync(on.at("lower/far"), "");
    chownSync(on.at("lower/far"), 1001, 0);
    await mountAll([overlay("overlay", on.at)], on.at("at"), on.map);
    assert.equal(ownerOf(on.at("at"), "far"), "65534:200000");
    assert.throws(() => writeFileSync(join(on.at("at"), "by-host"), ""), { code: "EOVERFLOW" });
  });

  test("leaves nothing behind if it cannot be", async () => {
    await using on = await scene();
    const before = readdirSync(on.path);
    const [missing, parted] = [on.at("missing"), overlay("overlay", on.at)];
    for (const mount of [
      { type: "bind", source: missing, options: ["rbind"] },
      { type: "proc", source: "proc", options: [] },
      { type: "bind", source: on.at("lower"), options: ["bind", "uidmap=0:1:1", "gidmap=0:1:1"] },
      { ...parted, options: [...parted.options.slice(1), `workdir=${on.at("other")}`] },
      { ...parted, options: [...parted.options, "nonsense"] },
    ]) {
      await assert.rejects(mountAll([mount], on.at("at"), on.map), FailedPreconditionError);
    }
    assert.deepEqual(readdirSync(on.path), before);
    assert.deepEqual(await mountPointsBeneath(on.path), []);
  });
});

test("a map without root is none", async () => {
  await assert.rejects(openOwnerMap({ uids: "1:100000:10", gids: "0:1:1" }), InvalidArgumentError);
});

test("files are made as somebody else, with all that root may, and only then", () => {
  const { mode } = lstatSync(tmpdir());
  assert(mode & 0o2, "anybody can make files there");
  const path = join(tmpdir(), `owner-${process.pid}`);
  asFileOwner(100_000, 200_000, () => {
    mkdirSync(path, 0o700);
    chownSync(path, 5, 5);
    mkdirSync(join(path, "inner"));
  });
  mkdirSync(join(path, "root's"));
  try {
    assert.deepEqual([ownerOf(path, "inner"), ownerOf(path, "root's")], ["100000:200000", "0:0"]);
    assert.throws(() => asFileOwner(7, 7, () => mkdirSync(join(path, "inner"))), { code: "EEXIST" });
    mkdirSync(join(path, "again"));
    assert.equal(ownerOf(path, "again"), "0:0");
  } finally {
    execFileSync("rm", ["-r", path]);
  }
});
