import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir, mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { type Mount, mountAll, mountTemporarily, unmount } from "./mount.ts";
import { helperCommand } from "./mount-by-helper.ts";
import { mountPointsBeneath } from "./mountinfo.ts";

const type = "fuse3.fuse-overlayfs";

function served(...options: string[]): Mount {
  return { type, source: "overlay", options };
}

/** Makes `count` directories in `parent`, each with a file of its own and one that all have. */
async function makeLayers(parent: string, count: number): Promise<string[]> {
  const layers: string[] = [];
  for (let layer = 0; layer < count; layer += 1) {
    const path = join(parent, `${layer}`);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, `file ${layer}`), "");
    await writeFile(join(path, "shared"), `${layer}`);
    layers.push(path);
  }
  return layers;
}

describe("helperCommand", () => {
  test("is the helper of the library that the type names, with its options in one list", () => {
    const directory = "/";
    assert.deepEqual(helperCommand(served("ro", "lowerdir=/a:/b"), "/at"), {
      program: "mount.fuse3",
      args: ["overlay", "/at", "-o", "ro,lowerdir=/a:/b", "-t", "fuse-overlayfs"],
      directory,
    });
    assert.deepEqual(helperCommand({ type: "fuse.sshfs", source: "host:", options: [] }, "/at"), {
      program: "mount.fuse",
      args: ["host:", "/at", "-t", "sshfs"],
      directory,
    });
  });

  for (const other of [
    "overlay",
    "fuse",
    "fuse3",
    "fuse3.",
    "fuse4.x",
    "nfs.x",
    "fuse3.-x",
    "fuse3.a b",
    "fuse3.$(x)",
  ]) {
    test(`is none for the type ${JSON.stringify(other)}`, () => {
      assert.equal(helperCommand({ type: other, source: "s", options: [] }, "/at"), undefined);
    });
  }

  test("has lower directories relative to their common one where they would not fit otherwise", () => {
    const root = `/${"x".repeat(200)}/y`;
    const paths = Array.from({ length: 1000 }, (_, index) => `${root}/${index}/fs`);
    const command = helperCommand(served("upperdir=/u", `lowerdir=${paths.join(":")}`), "/at");
    assert.equal(command?.directory, root);
    assert.equal(
      command.args[3],
      `upperdir=/u,lowerdir=${Array.from({ length: 1000 }, (_, index) => `${index}/fs`).join(":")}`,
    );
  });
});

describe("a mount that a program serves", () => {
  test("shows its layers and keeps changes above", async () => {
    await using scene = await mkdtempDisposable(join(tmpdir(), "helper-"));
    const lowers = await makeLayers(join(scene.path, "layers"), 2);
    const [upper, work, target] = ["upper", "work", "it's mounted here"].map((name) =>
      join(scene.path, name),
    );
    assert(upper !== undefined && work !== undefined && target !== undefined);
    await Promise.all([upper, work, target].map((path) => mkdir(path)));
    const options = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lowers.join(":")}`];
    {
      await using undo = new AsyncDisposableStack();
      await mountAll([served(...options)], target);
      undo.defer(() => unmount(target));
      assert.equal(readFileSync(join(target, "shared"), "utf8"), "0");
      await writeFile(join(target, "above"), "written");
      assert.deepEqual((await readdir(target)).sort(), ["above", "file 0", "file 1", "shared"]);
    }
    assert.equal(readFileSync(join(upper, "above"), "utf8"), "written");
    assert.deepEqual(await mountPointsBeneath(scene.path), []);
  });

  test("outlives whoever mounted it, also when that is killed with its process group", async () => {
    await using scene = await mkdtempDisposable(join(tmpdir(), "helper-"));
    const lowers = await makeLayers(join(scene.path, "layers"), 2);
    const target = join(scene.path, "target");
    await mkdir(target);
    const script = `
      import { mountAll } from ${JSON.stringify(import.meta.resolve("./mount.ts"))};
      await mountAll([${JSON.stringify(served(`lowerdir=${lowers.join(":")}`))}], ${JSON.stringify(target)});
      process.kill(-process.pid, "SIGKILL");`;
    const mounter = spawn(process.execPath, ["--input-type=module", "--eval", script], {
      detached: true,
      stdio: ["ignore", "inherit", "inherit"],
    });
    await using undo = new AsyncDisposableStack();
    undo.defer(() => unmount(target));
    assert.deepEqual(await once(mounter, "exit"), [null, "SIGKILL"]);
    assert.equal(readFileSync(join(target, "shared"), "utf8"), "0");
  });

  test("is read-only if it says so", async () => {
    await using scene = await mkdtempDisposable(join(tmpdir(), "helper-"));
    const lowers = await makeLayers(scene.path, 2);
    await using mounted = await mountTemporarily([served("ro", `lowerdir=${lowers.join(":")}`)], tmpdir());
    await assert.rejects(writeFile(join(mounted.path, "new"), ""), { code: "EROFS" });
  });

  test("may have more layers than fit into an argument", async () => {
    await using scene = await mkdtempDisposable(join(tmpdir(), "helper-"));
    const lowers = await makeLayers(join(scene.path, "x".repeat(200), "y".repeat(200)), 330);
    const lower = `lowerdir=${lowers.join(":")}`;
    assert(lower.length > 128 * 1024);
    await using mounted = await mountTemporarily([served("ro", lower)], tmpdir());
    assert.equal((await readdir(mounted.path)).length, 331);
    assert.equal(readFileSync(join(mounted.path, "shared"), "utf8"), "0");
  });

  test("that fails tells what the program has said, and leaves nothing", async () => {
    await using scene = await mkdtempDisposable(join(tmpdir(), "helper-"));
    const missing = join(scene.path, "missing");
    await assert.rejects(mountTemporarily([served(`lowerdir=${missing}`)], scene.path), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(
        error.message,
        /^Cannot mount fuse3\.fuse-overlayfs overlay at .*: mount\.fuse3 ended with/,
      );
      assert(error.message.includes(missing));
      return true;
    });
    await assert.rejects(
      mountTemporarily([{ type: "fuse3.no-such-program", source: "x", options: [] }], scene.path),
      (error) => error instanceof FailedPreconditionError && /no-such-program: not found/.test(error.message),
    );
    await assert.rejects(
      mountTemporarily([{ type: "fuse.no-helper", source: "x", options: [] }], scene.path),
      FailedPreconditionError,
    );
    assert.deepEqual(await readdir(scene.path), []);
  });
});
