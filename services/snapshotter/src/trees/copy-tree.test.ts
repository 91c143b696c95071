import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  chmodSync,
  chownSync,
  type Dirent,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { mkdtempDisposable, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { makeDevice, mknod, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK, setTimes } from "@oci-worker/libc/file";
import { lgetxattr, llistxattr, lsetxattr } from "@oci-worker/libc/xattr";
import { mountAll, mountTemporarily, unmount } from "@oci-worker/mounts/mount";
import { copyTree } from "./copy-tree.ts";

const run = promisify(execFile);

const ignore = () => undefined;

/** Copies in the three parts, the files in `lanes` of them. */
function copyWhole(from: string, to: string, lanes = 1): void {
  copyTree(from, to, { name: "skeleton" }, ignore);
  for (let lane = 0; lane < lanes; lane += 1) {
    copyTree(from, to, { name: "files", lane, lanes }, ignore);
  }
  copyTree(from, to, { name: "directories" }, ignore);
}

async function withTrees(
  use: (from: string, to: string) => Promise<void> | void,
  parent = tmpdir(),
): Promise<void> {
  await using directory = await mkdtempDisposable(join(parent, "copy-tree-"));
  const [from, to] = [join(directory.path, "from"), join(directory.path, "to")];
  mkdirSync(from);
  mkdirSync(to);
  await use(from, to);
}

/** Everything that is to be known of a tree, but access times, which reading it changes. */
function describeTree(root: string): Map<string, unknown> {
  const found = new Map<string, unknown>();
  const firstNames = new Map<bigint, string>();
  const visit = (path: Buffer, name: string): void => {
    const stat = lstatSync(path, { bigint: true });
    const first = firstNames.get(stat.ino) ?? name;
    firstNames.set(stat.ino, first);
    found.set(name, {
      mode: stat.mode,
      owner: [stat.uid, stat.gid],
      links: stat.isDirectory() ? undefined : stat.nlink,
      sameAs: first,
      device: stat.rdev,
      modifiedNs: stat.mtimeNs,
      content: stat.isFile() ? readFileSync(path) : undefined,
      target: stat.isSymbolicLink() ? readlinkSync(path, { encoding: "buffer" }) : undefined,
      attributes: llistxattr(path).map((each) => [each, lgetxattr(path, each)]),
    });
    if (stat.isDirectory()) {
      for (const entry of readdirSync(path, {
        withFileTypes: true,
        encoding: "buffer",
      }) as Dirent<Buffer>[]) {
        visit(
          Buffer.concat([path, Buffer.from("/"), entry.name]),
          `${name}/${entry.name.toString("latin1")}`,
        );
      }
    }
  };
  visit(Buffer.from(root), "");
  return found;
}

const old = 1_111_111_111_111_111_111n;

function fill(from: string): void {
  mkdirSync(join(from, "a/b/c"), { recursive: true });
  mkdirSync(join(from, "empty"));
  for (let index = 0; index < 30; index += 1) {
    writeFileSync(join(from, "a/b", `file ${index}`), `content ${index}`.repeat(index * 100));
  }
  linkSync(join(from, "a/b/file 3"), join(from, "empty/linked"));
  linkSync(join(from, "a/b/file 3"), join(from, "a/b/c/linked"));
  symlinkSync("/nowhere/é", join(from, "absolute"));
  symlinkSync("a/b", join(from, "to directory"));
  linkSync(join(from, "absolute"), join(from, "a/linked symlink"));
  writeFileSync(Buffer.concat([Buffer.from(from), Buffer.from([0x2f, 0xff, 0xfe, 0x0a])]), "no UTF-8");
  mknod(join(from, "char"), S_IFCHR | 0o666, makeDevice(259, 70_000));
  mknod(join(from, "block"), S_IFBLK | 0o640, makeDevice(8, 1));
  mknod(join(from, "whiteout"), S_IFCHR, 0n);
  mknod(join(from, "fifo"), S_IFIFO | 0o604, 0n);
  mknod(join(from, "socket"), S_IFSOCK | 0o755, 0n);
  chownSync(join(from, "a/b/file 5"), 4_000_000_000, 65_534);
  chmodSync(join(from, "a/b/file 5"), 0o6755);
  chownSync(join(from, "a"), 12, 34);
  chmodSync(join(from, "a"), 0o3770);
  chmodSync(join(from, "a/b/c"), 0);
  lsetxattr(join(from, "a/b/file 7"), "user.empty", Buffer.alloc(0));
  lsetxattr(
    join(from, "a/b/file 7"),
    "security.capability",
    Buffer.from("0100000200040000000000000000000000000000", "hex"),
  );
  lsetxattr(join(from, "a"), "user.directory", Buffer.from("é"));
  lsetxattr(join(from, "absolute"), "trusted.link", Buffer.from("x"));
  for (const name of ["a/b/file 9", "absolute", "fifo", "a/b", "a", "empty", "."]) {
    setTimes(join(from, name), old, old + BigInt(name.length));
  }
  setTimes(join(from, "char"), -1n, -5_000_000_001n);
}

describe("copyTree", () => {
  for (const lanes of [1, 3]) {
    test(`copies all that a tree is, in ${lanes} lanes`, () =>
      withTrees((from, to) => {
        fill(from);
        const before = describeTree(from);
        copyWhole(from, to, lanes);
        assert.deepEqual(describeTree(to), before);
        assert.equal(before.size, 30 + 16);
        assert.deepEqual(describeTree(from), before, "the source stays as it was");
      }));
  }

  test("counts the files whichever part it copies", () =>
    withTrees((from, to) => {
      fill(from);
      const files = 30 + 2 + 1;
      assert.equal(copyTree(from, to, { name: "skeleton" }, ignore).files, files);
      assert.equal(copyTree(from, to, { name: "files", lane: 1, lanes: 3 }, ignore).files, files);
    }));

  test("keeps access times", () =>
    withTrees((from, to) => {
      writeFileSync(join(from, "file"), "");
      setTimes(join(from, "file"), old, old + 1n);
      copyWhole(from, to);
      assert.equal(lstatSync(join(to, "file"), { bigint: true }).atimeNs, old);
    }));

  test("copies holes as holes, wherever they are", () =>
    withTrees(async (from, to) => {
      const mebibyte = 1024 * 1024;
      const file = await open(join(from, "sparse"), "w");
      await file.write("beginning", 0);
      await file.write("middle", 20 * mebibyte);
      await file.truncate(50 * mebibyte + 3);
      await file.close();
      writeFileSync(join(from, "only a hole"), "");
      truncateSync(join(from, "only a hole"), 10 * mebibyte);
      copyWhole(from, to);
      for (const name of ["sparse", "only a hole"]) {
        const [source, copy] = [lstatSync(join(from, name)), lstatSync(join(to, name))];
        assert.equal(copy.size, source.size);
        assert(copy.blocks * 512 < mebibyte, `${name} has ${copy.blocks} blocks`);
        assert(readFileSync(join(to, name)).equals(readFileSync(join(from, name))));
      }
    }));

  test("shares the blocks of a file where the file system can", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "copy-tree-xfs-"));
    const image = join(directory.path, "image");
    const mountPoint = join(directory.path, "xfs");
    const mebibyte = 1024 * 1024;
    writeFileSync(image, "");
    truncateSync(image, 512 * mebibyte);
    mkdirSync(mountPoint);
    // Of the Debian package xfsprogs.
    await run("mkfs.xfs", ["-q", "-m", "reflink=1", image]);
    await run("mount", ["-o", "loop", image, mountPoint]);
    try {
      const bytesFree = () => statfsSync(mountPoint).bfree * statfsSync(mountPoint).bsize;
      await withTrees(async (from, to) => {
        await using file = await open(join(from, "large"), "w+");
        await file.write(Buffer.alloc(64 * mebibyte, 7));
        await file.sync();
        const before = bytesFree();
        copyWhole(from, to);
        await using copy = await open(join(to, "large"));
        await copy.sync();
        assert(before - bytesFree() < 8 * mebibyte, `${before - bytesFree()} bytes more are in use`);
        await file.write("changed", 0);
        assert.equal((await copy.read(Buffer.alloc(7), 0, 7, 0)).buffer.toString("latin1"), "\x07".repeat(7));
      }, mountPoint);
    } finally {
      await unmount(mountPoint);
    }
  });

  test("copies between file systems", async () => {
    await using tmpfs = await mountTemporarily([{ type: "tmpfs", source: "tmpfs", options: [] }], tmpdir());
    await withTrees((from) => {
      writeFileSync(join(from, "file"), Buffer.alloc(3_000_000, 7));
      mkdirSync(join(from, "directory"));
      writeFileSync(join(from, "directory/inner"), "");
      const to = join(tmpfs.path, "to");
      mkdirSync(to);
      copyWhole(from, to);
      assert.deepEqual(readdirSync(join(to, "directory")), ["inner"]);
      assert(readFileSync(join(to, "file")).equals(Buffer.alloc(3_000_000, 7)));
    });
  });

  test("enters nothing that is mounted in the tree", () =>
    withTrees(async (from, to) => {
      mkdirSync(join(from, "mounted"));
      await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], join(from, "mounted"));
      try {
        writeFileSync(join(from, "mounted/secret"), "");
        copyWhole(from, to);
        assert.deepEqual(readdirSync(join(to, "mounted")), []);
      } finally {
        await unmount(join(from, "mounted"));
      }
    }));

  test("does not read through a symbolic link that takes the place of a directory", () =>
    withTrees((from, to) => {
      symlinkSync("/etc", join(from, "directory"));
      copyWhole(from, to);
      assert.equal(readlinkSync(join(to, "directory")), "/etc");
    }));

  test("ends when it is told to", () =>
    withTrees((from, to) => {
      fill(from);
      let directories = 0;
      const stop = new Error("stopped");
      const onDirectory = () => {
        directories += 1;
        if (directories === 2) {
          throw stop;
        }
      };
      assert.throws(() => copyTree(from, to, { name: "skeleton" }, onDirectory), stop);
    }));
});
