import assert from "node:assert/strict";
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { chown, mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { MNT_DETACH, umount2 } from "@oci-worker/libc/mount";
import { clearMountPoints } from "./clear-mount-points.ts";
import { mountAll, mountTemporarily, unmount } from "./mount.ts";
import { mountPointsBeneath, parseMountInfo, readMountInfo, unmountBeneath } from "./mountinfo.ts";

/** A directory for one test, without a mount and gone after it, however the test ends. */
async function makeScene(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "mounts test-"));
  return {
    path,
    async [Symbol.asyncDispose]() {
      for (const point of await mountPointsBeneath(path)) {
        umount2(point, MNT_DETACH);
      }
      await rm(path, { recursive: true });
    },
  };
}

async function makeDirectory(...names: string[]): Promise<string> {
  const path = join(...names);
  await mkdir(path, { recursive: true });
  return path;
}

function ownerOf(...names: string[]): [uid: number, gid: number] {
  const { uid, gid } = lstatSync(join(...names));
  return [uid, gid];
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function bind(source: string, ...options: string[]) {
  return { type: "bind", source, options: ["rbind", ...options] };
}

describe("a mount", () => {
  test("shows its source, is writable there, and goes without a trace", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source");
    await writeFile(join(source, "file"), "content");
    const parent = await makeDirectory(scene.path, "parent");
    {
      await using mounted = await mountTemporarily([bind(source)], parent);
      assert.equal(readFileSync(join(mounted.path, "file"), "utf8"), "content");
      await writeFile(join(mounted.path, "new"), "");
    }
    assert.deepEqual(readdirSync(parent), []);
    assert.deepEqual(readdirSync(source).sort(), ["file", "new"]);
    assert.deepEqual(await mountPointsBeneath(scene.path), []);
  });

  test("that is a bind is read-only if it says so, and its source is not", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source");
    await using mounted = await mountTemporarily([bind(source, "ro")], scene.path);
    await assert.rejects(writeFile(join(mounted.path, "file"), ""), { code: "EROFS" });
    await writeFile(join(source, "file"), "");
    assert.deepEqual(readdirSync(mounted.path), ["file"]);
  });

  test("that is an overlay shows its layers and keeps changes above", async () => {
    await using scene = await makeScene();
    const [lower, upper, work] = await Promise.all(
      ["lower", "upper", "work"].map((name) => makeDirectory(scene.path, name)),
    );
    await writeFile(join(scene.path, "lower", "below"), "");
    const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
    {
      await using mounted = await mountTemporarily(
        [{ type: "overlay", source: "overlay", options }],
        scene.path,
      );
      await writeFile(join(mounted.path, "above"), "");
      assert.deepEqual(readdirSync(mounted.path).sort(), ["above", "below"]);
    }
    assert.deepEqual(readdirSync(join(scene.path, "upper")), ["above"]);
  });

  test("that is an overlay may have more options than fit into a page", async () => {
    await using scene = await makeScene();
    const lowers: string[] = [];
    for (let layer = 0; layer < 64; layer += 1) {
      const directory = await makeDirectory(scene.path, `layer-${layer}-${"x".repeat(100)}`);
      await writeFile(join(directory, `file-${layer}`), "");
      await writeFile(join(directory, "shared"), String(layer));
      lowers.push(directory);
    }
    const upper = await makeDirectory(scene.path, "upper");
    const work = await makeDirectory(scene.path, "work");
    const options = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lowers.join(":")}`, "index=off"];
    assert(options.join(",").length > 4096);
    const overlay = { type: "overlay", source: "overlay" };
    {
      await using mounted = await mountTemporarily([{ ...overlay, options }], scene.path);
      assert.equal(readdirSync(mounted.path).length, 65);
      assert.equal(readFileSync(join(mounted.path, "shared"), "utf8"), "0");
      await writeFile(join(mounted.path, "above"), "");
    }
    assert.deepEqual(readdirSync(upper), ["above"]);
    await using readOnly = await mountTemporarily(
      [{ ...overlay, options: ["ro", `lowerdir=${lowers.join(":")}`] }],
      scene.path,
    );
    await assert.rejects(writeFile(join(readOnly.path, "no"), ""), { code: "EROFS" });
  });

  const map = ["uidmap=0:100000:1000,1000:5:1", "gidmap=0:200000:1000"];

  test("that is a bind shows the ids that its maps say, in both directions", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source");
    await writeFile(join(source, "root's"), "");
    await writeFile(join(source, "user's"), "");
    await chown(join(source, "user's"), 1000, 33);
    {
      await using mounted = await mountTemporarily([bind(source, ...map)], scene.path);
      assert.deepEqual(ownerOf(mounted.path, "root's"), [100_000, 200_000]);
      assert.deepEqual(ownerOf(mounted.path, "user's"), [5, 200_033]);
      await chown(join(mounted.path, "user's"), 100_007, 200_008);
      // Nobody whose id the maps do not have, such as the host's root, can make anything there.
      await assert.rejects(writeFile(join(mounted.path, "new"), ""), { code: "EOVERFLOW" });
    }
    assert.deepEqual(ownerOf(source, "user's"), [7, 8]);
    await using readOnly = await mountTemporarily([bind(source, ...map, "ro")], scene.path);
    assert.deepEqual(ownerOf(readOnly.path, "root's"), [100_000, 200_000]);
    await assert.rejects(writeFile(join(readOnly.path, "no"), ""), { code: "EROFS" });
  });

  for (const count of [1, 3, 64]) {
    test(`that is an overlay shows the files of ${count} lower directories with the ids that its maps say`, async () => {
      await using scene = await makeScene();
      const lowers: string[] = [];
      for (let layer = 0; layer < count; layer += 1) {
        const directory = await makeDirectory(scene.path, `layer-${layer}-${"x".repeat(100)}`);
        await writeFile(join(directory, `file-${layer}`), "");
        lowers.push(directory);
      }
      const upper = await makeDirectory(scene.path, "upper");
      const work = await makeDirectory(scene.path, "work");
      await chown(upper, 100_000, 200_000);
      const options = [...map, `workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lowers.join(":")}`];
      {
        await using mounted = await mountTemporarily(
          [{ type: "overlay", source: "overlay", options }],
          scene.path,
        );
        assert.deepEqual(ownerOf(mounted.path, `file-${count - 1}`), [100_000, 200_000]);
        assert.deepEqual(await mountPointsBeneath(scene.path), [mounted.path]);
        await writeFile(join(mounted.path, "file-0"), "changed");
        assert.deepEqual(ownerOf(mounted.path, "file-0"), [100_000, 200_000]);
      }
      assert.deepEqual(ownerOf(upper, "file-0"), [100_000, 200_000]);
      assert.deepEqual(ownerOf(lowers[0] ?? "", "file-0"), [0, 0]);
    });
  }

  test("with mapped ids leaves nothing behind, whether it succeeds or fails", async () => {
    await using scene = await makeScene();
    const leftovers = () => [readdirSync(scene.path), openDescriptors()];
    const [lower, target] = [
      await makeDirectory(scene.path, "lower"),
      await makeDirectory(scene.path, "target"),
    ];
    const missing = join(scene.path, "missing");
    const before = leftovers();
    for (const mount of [
      bind(missing, ...map),
      { type: "overlay", source: "overlay", options: [...map, `lowerdir=${lower}:${missing}`] },
      { type: "overlay", source: "overlay", options: [...map, `lowerdir=${lower}`, "nonsense"] },
      { type: "tmpfs", source: "tmpfs", options: map },
      // No file system of the kernel's own can map ids.
      { type: "bind", source: "/proc", options: [...map, "bind"] },
    ]) {
      await assert.rejects(mountAll([mount], target), FailedPreconditionError, mount.source);
    }
    await mountAll(
      [{ type: "overlay", source: "overlay", options: [...map, `lowerdir=${lower}:${target}`] }],
      target,
    );
    await unmount(target);
    assert.deepEqual(leftovers(), before);
    assert.deepEqual(await mountPointsBeneath(scene.path), []);
  });

  test("that fails names itself, and undoes those before it", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source");
    const target = await makeDirectory(scene.path, "target");
    const missing = join(scene.path, "missing");
    await assert.rejects(
      mountAll([bind(source), bind(missing)], target),
      (error) => error instanceof FailedPreconditionError && error.message.includes(missing),
    );
    assert.deepEqual(await mountPointsBeneath(scene.path), []);
    const parent = await makeDirectory(scene.path, "parent");
    await assert.rejects(mountTemporarily([bind(missing)], parent), FailedPreconditionError);
    assert.deepEqual(readdirSync(parent), []);
  });
});

describe("to unmount", () => {
  test("undoes all that is mounted there, one over the other", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source");
    const target = await makeDirectory(scene.path, "target");
    await mountAll([bind(source), bind(source), bind(source)], target);
    assert.equal((await mountPointsBeneath(target)).length, 3);
    await unmount(target);
    assert.deepEqual(await mountPointsBeneath(target), []);
  });

  test("detaches what stays busy", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source");
    await writeFile(join(source, "file"), "content");
    const target = await makeDirectory(scene.path, "target");
    await mountAll([{ type: "tmpfs", source: "tmpfs", options: [] }], target);
    await writeFile(join(target, "file"), "content");
    await using user = await open(join(target, "file"));
    await unmount(target);
    assert.deepEqual(await mountPointsBeneath(target), []);
    assert(!existsSync(join(target, "file")));
    assert.equal(await user.readFile("utf8"), "content");
  });

  test("has nothing to do where nothing is mounted, or nothing is", async () => {
    await using scene = await makeScene();
    await unmount(scene.path);
    await unmount(join(scene.path, "missing"));
  });

  test("finds everything beneath a directory, the innermost first, whatever its name", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source", "inner \\ ü");
    const target = await makeDirectory(scene.path, "target\twith\nspace ");
    const beside = await makeDirectory(`${target}-beside`);
    await mountAll([bind(join(scene.path, "source"))], target);
    const inner = join(target, "inner \\ ü");
    await mountAll([bind(source)], inner);
    await mountAll([bind(source)], beside);
    assert.deepEqual(await unmountBeneath(target), [inner, target]);
    assert.deepEqual(await mountPointsBeneath(scene.path), [beside]);
  });
});

describe("mount points that a killed process has left", () => {
  test("are cleared away, those beneath others too, and nothing that they show", async () => {
    await using scene = await makeScene();
    const source = await makeDirectory(scene.path, "source");
    await writeFile(join(source, "file"), "content");
    const parent = await makeDirectory(scene.path, "parent");
    await mountAll([bind(source)], await makeDirectory(parent, "mount-a"));
    const memory = { type: "tmpfs", source: "tmpfs", options: [] };
    await mountAll([memory], await makeDirectory(parent, "mapped-b"));
    await mountAll([bind(source)], await makeDirectory(parent, "mapped-b", "0"));
    await clearMountPoints(parent);
    assert.deepEqual(readdirSync(parent), []);
    assert.deepEqual(await mountPointsBeneath(scene.path), []);
    assert.equal(readFileSync(join(source, "file"), "utf8"), "content");
  });

  test("are left where somebody has put a file", async () => {
    await using scene = await makeScene();
    await writeFile(join(await makeDirectory(scene.path, "mount-a"), "file"), "");
    await assert.rejects(clearMountPoints(scene.path), { code: "ENOTEMPTY" });
    assert(existsSync(join(scene.path, "mount-a", "file")));
  });
});

describe("mountinfo", () => {
  test("is read whatever the number of its optional fields", () => {
    const text = [
      "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue",
      "37 35 0:5 / /a\\040b rw - tmpfs none rw",
      "38 35 0:6 / /- rw shared:1 - overlay over\\134lay rw,lowerdir=/a\\040b:/c",
      "",
    ].join("\n");
    assert.deepEqual(parseMountInfo(text), [
      {
        ...{ mountPoint: "/mnt2", type: "ext3", source: "/dev/root" },
        ...{ device: "98:0", root: "/mnt1", options: ["rw", "errors=continue"] },
      },
      {
        ...{ mountPoint: "/a b", type: "tmpfs", source: "none" },
        ...{ device: "0:5", root: "/", options: ["rw"] },
      },
      {
        ...{ mountPoint: "/-", type: "overlay", source: "over\\lay" },
        ...{ device: "0:6", root: "/", options: ["rw", "lowerdir=/a b:/c"] },
      },
    ]);
  });

  test("has the root of this very process", async () => {
    assert((await readMountInfo()).some(({ mountPoint }) => mountPoint === "/"));
  });
});
