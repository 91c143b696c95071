import assert from "node:assert/strict";
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { makeDevice, mknod, S_IFCHR, S_IFIFO, S_IFSOCK, setTimes } from "@oci-worker/libc/file";
import { lgetxattr, lsetxattr } from "@oci-worker/libc/xattr";
import { type Check, commitLayer, mounted, viewed } from "./subject.ts";

/** What is seen through the mounts. */
export const content: Readonly<Record<string, Check>> = {
  "the root of a snapshot on nothing is an empty directory with mode 0755": async (subject) => {
    const { snapshotter } = subject;
    for (const mounts of [
      await snapshotter.prepare("a", undefined, {}),
      await snapshotter.view("v", undefined, {}),
    ]) {
      await mounted(subject, mounts, async (path) => {
        assert.equal((await stat(path)).mode & 0o7777, 0o755);
        assert.deepEqual(await readdir(path), []);
      });
    }
  },

  "the root of a child belongs to whom the root of its parent belongs": async (subject) => {
    await commitLayer(subject, "base", undefined, (path) => chown(path, 1234, 5678));
    await mounted(subject, await subject.snapshotter.prepare("key", "base", {}), async (path) => {
      const { uid, gid } = await stat(path);
      assert.deepEqual([uid, gid], [1234, 5678]);
    });
    await commitLayer(subject, "child", "base");
    await viewed(subject, "child", async (path) => {
      assert.equal((await stat(path)).uid, 1234);
    });
  },

  "a view cannot be written to": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "one", undefined, (path) => writeFile(join(path, "file"), ""));
    await commitLayer(subject, "two", "one");
    for (const parent of [undefined, "one", "two"]) {
      const mounts = await snapshotter.view(`view of ${parent}`, parent, {});
      await mounted(subject, mounts, async (path) => {
        await assert.rejects(writeFile(join(path, "new"), ""), { code: "EROFS" });
        if (parent !== undefined) {
          await assert.rejects(writeFile(join(path, "file"), "x"), { code: "EROFS" });
        }
      });
    }
  },

  "a child shows its parent's content and what was changed on it, and the parent stays as it was": async (
    subject,
  ) => {
    await commitLayer(subject, "base", undefined, async (path) => {
      await mkdir(join(path, "directory/sub"), { recursive: true });
      await writeFile(join(path, "directory/sub/deep"), "base");
      await writeFile(join(path, "kept"), "base");
      await writeFile(join(path, "changed"), "base");
      await writeFile(join(path, "deleted"), "base");
      await mkdir(join(path, "replaced by file"));
      await writeFile(join(path, "replaced by directory"), "base");
    });
    await commitLayer(subject, "child", "base", async (path) => {
      await writeFile(join(path, "changed"), "child");
      await unlink(join(path, "deleted"));
      await rm(join(path, "directory"), { recursive: true });
      await mkdir(join(path, "directory"));
      await writeFile(join(path, "directory/new"), "child");
      await rm(join(path, "replaced by file"), { recursive: true });
      await writeFile(join(path, "replaced by file"), "child");
      await unlink(join(path, "replaced by directory"));
      await mkdir(join(path, "replaced by directory"));
      await rename(join(path, "kept"), join(path, "moved"));
    });
    await viewed(subject, "child", async (path) => {
      const names = ["changed", "directory", "moved", "replaced by directory", "replaced by file"];
      assert.deepEqual((await readdir(path)).sort(), names);
      assert.deepEqual(await readdir(join(path, "directory")), ["new"]);
      assert.equal(await readFile(join(path, "changed"), "utf8"), "child");
      assert.equal(await readFile(join(path, "moved"), "utf8"), "base");
      assert((await stat(join(path, "replaced by directory"))).isDirectory());
      assert.equal(await readFile(join(path, "replaced by file"), "utf8"), "child");
    });
    await viewed(subject, "base", async (path) => {
      assert.equal(await readFile(join(path, "changed"), "utf8"), "base");
      assert.equal(await readFile(join(path, "directory/sub/deep"), "utf8"), "base");
      assert.equal(await readFile(join(path, "deleted"), "utf8"), "base");
    });
  },

  "two children of one parent do not see each other": async (subject) => {
    const { snapshotter } = subject;
    await commitLayer(subject, "base", undefined, (path) => writeFile(join(path, "file"), "base"));
    const [one, two] = [
      await snapshotter.prepare("one", "base", {}),
      await snapshotter.prepare("two", "base", {}),
    ];
    await mounted(subject, one, async (first) => {
      await mounted(subject, two, async (second) => {
        await writeFile(join(first, "file"), "one");
        assert.equal(await readFile(join(second, "file"), "utf8"), "base");
      });
    });
  },

  "owners, modes, links, devices, attributes and times come through to a grandchild": async (subject) => {
    const modifiedNs = 1_234_567_890_123_456_789n;
    await commitLayer(subject, "base", undefined, async (path) => {
      const directory = join(path, "directory");
      await mkdir(directory);
      await writeFile(join(directory, "file"), "content");
      await link(join(directory, "file"), join(directory, "hard link"));
      await symlink("../nowhere", join(directory, "symbolic link"));
      mknod(join(directory, "device"), S_IFCHR | 0o640, makeDevice(1, 3));
      mknod(join(directory, "fifo"), S_IFIFO | 0o600, 0n);
      mknod(join(directory, "socket"), S_IFSOCK | 0o600, 0n);
      await chown(join(directory, "file"), 1000, 1001);
      await chmod(join(directory, "file"), 0o4711);
      lsetxattr(join(directory, "file"), "user.test", Buffer.from([0, 1, 255]));
      setTimes(join(directory, "file"), modifiedNs, modifiedNs);
      setTimes(join(directory, "symbolic link"), modifiedNs, modifiedNs + 1n);
      await chmod(directory, 0o1751);
      setTimes(directory, modifiedNs, modifiedNs + 2n);
    });
    await commitLayer(subject, "child", "base", (path) => writeFile(join(path, "unrelated"), ""));
    await mounted(subject, await subject.snapshotter.prepare("grandchild", "child", {}), async (path) => {
      const directory = join(path, "directory");
      const [top, file, other, symbolic, device, fifo, socket] = await Promise.all(
        ["", "file", "hard link", "symbolic link", "device", "fifo", "socket"].map((name) =>
          lstat(join(directory, name), { bigint: true }),
        ),
      );
      assert(top && file && other && symbolic && device && fifo && socket);
      assert.equal(top.mode & 0o7777n, 0o1751n);
      assert.equal(top.mtimeNs, modifiedNs + 2n);
      assert.deepEqual([file.uid, file.gid, file.mode & 0o7777n, file.nlink], [1000n, 1001n, 0o4711n, 2n]);
      assert.equal(file.mtimeNs, modifiedNs);
      assert.equal(other.ino, file.ino);
      assert.deepEqual(lgetxattr(join(directory, "file"), "user.test"), Buffer.from([0, 1, 255]));
      assert.equal(await readlink(join(directory, "symbolic link")), "../nowhere");
      assert.equal(symbolic.mtimeNs, modifiedNs + 1n);
      assert(device.isCharacterDevice() && fifo.isFIFO() && socket.isSocket());
      assert.equal(device.rdev, makeDevice(1, 3));
    });
  },

  "128 layers are shown as one tree": async (subject) => {
    const names = Array.from({ length: 128 }, (_, index) => `layer ${index}`);
    for (const [index, name] of names.entries()) {
      await commitLayer(subject, name, names[index - 1], async (path) => {
        await writeFile(join(path, `file ${index}`), `${index}`);
        await writeFile(join(path, "last"), `${index}`);
      });
    }
    await viewed(subject, "layer 127", async (path) => {
      assert.equal((await readdir(path)).length, 129);
      assert.equal(await readFile(join(path, "last"), "utf8"), "127");
      for (const index of [0, 64, 127]) {
        assert.equal(await readFile(join(path, `file ${index}`), "utf8"), `${index}`);
      }
    });
  },
};
