import assert from "node:assert/strict";
import { mkdir, mkdtempDisposable, readdir, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { lookUp } from "./lookup.ts";
import { findMountStubs } from "./mount-stubs.ts";

async function root() {
  const directory = await mkdtempDisposable(join(tmpdir(), "stubs-"));
  for (const name of ["proc", "dev", "sys", "etc", "data"]) {
    await mkdir(join(directory.path, name));
  }
  await writeFile(join(directory.path, "etc/hosts"), "");
  await writeFile(join(directory.path, "etc/resolv.conf"), "");
  return directory;
}

const tree = async (path: string) =>
  (await readdir(path, { recursive: true })).filter((name) => !/^(proc|dev|sys|etc)/.test(name)).sort();

describe("mount stubs", () => {
  test("behind links of the image are found where a runtime makes them", async () => {
    await using on = await root();
    await symlink("/data", join(on.path, "absolute"));
    await symlink("../../../data/later", join(on.path, "dangling"));
    const stubs = findMountStubs(on.path, ["/absolute/a/b", "/dangling/c"], true);
    await mkdir(join(on.path, "data/a/b"), { recursive: true });
    await mkdir(join(on.path, "data/later/c"), { recursive: true });
    stubs.remove();
    assert.deepEqual(await tree(on.path), ["absolute", "dangling", "data"]);
  });

  test("are removed by themselves, without the directories above, for a client that says so", async () => {
    await using on = await root();
    const stubs = findMountStubs(on.path, ["/new/deep/mount", "/data/mount"], false);
    await mkdir(join(on.path, "new/deep/mount"), { recursive: true });
    await mkdir(join(on.path, "data/mount"));
    stubs.remove();
    assert.deepEqual(await tree(on.path), ["data", "new", "new/deep"]);
  });

  test("that a step has filled, or made something else of, stay", async () => {
    await using on = await root();
    const stubs = findMountStubs(on.path, ["/data/full", "/data/file", "/data/link"], true);
    await mkdir(join(on.path, "data/full"));
    await writeFile(join(on.path, "data/full/x"), "");
    await writeFile(join(on.path, "data/file"), "content");
    await symlink("/etc/hosts", join(on.path, "data/link"));
    stubs.remove();
    assert.deepEqual(await tree(on.path), ["data", "data/file", "data/full", "data/full/x", "data/link"]);
  });
});

describe("a path in an image", () => {
  const places: readonly [path: string, components: string[], existing: number][] = [
    ["/", [], 0],
    ["/data/x/../y", ["data", "y"], 1],
    ["/../../data", ["data"], 1],
    ["/absolute/x", ["data", "x"], 1],
    ["/up/x", ["data", "x"], 1],
    ["/nowhere/x", ["gone", "there", "x"], 0],
    ["/etc/hosts/x", ["etc", "hosts", "x"], 2],
    ["/absent/../data", ["data"], 1],
  ];
  for (const [path, components, existing] of places) {
    test(path, async () => {
      await using on = await root();
      await symlink("/data", join(on.path, "absolute"));
      await symlink("../../../../data", join(on.path, "up"));
      await symlink("gone/there", join(on.path, "nowhere"));
      assert.deepEqual(lookUp(on.path, path), { components, existing });
    });
  }

  test("that is too long is refused, also where nothing is there", async () => {
    await using on = await root();
    for (const path of [`/${"x".repeat(256)}`, `/absent/${"x".repeat(256)}`, "/absent".repeat(600)]) {
      assert.throws(() => lookUp(on.path, path), /Cannot follow .{1,100} in the image: it is too long/, path);
    }
  });

  test("that leads in a circle is refused", async () => {
    await using on = await root();
    await symlink("b", join(on.path, "a"));
    await symlink("a", join(on.path, "b"));
    assert.throws(() => lookUp(on.path, "/a/x"), /Cannot follow \/a\/x in the image: more than 40 links/);
  });
});
