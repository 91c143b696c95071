import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtempDisposable, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { compareTrees, type Trees } from "./compare-trees.ts";

const run = promisify(execFile);

async function changes(trees: Trees): Promise<string[]> {
  const found = await Array.fromAsync(compareTrees(trees, new AbortController().signal));
  return found.map(({ kind, path, type, sizeBytes }) => `${kind} ${path} ${type} ${sizeBytes}`);
}

/** A tree with some of everything. */
async function fill(directory: string): Promise<void> {
  for (const name of ["etc", "etc/deep", "kept", "gone", "moved"]) {
    await mkdir(join(directory, name), { recursive: true });
  }
  for (const name of ["etc/hosts", "etc/deep/file", "kept/file", "gone/file", "moved/file", "replaced"]) {
    await writeFile(join(directory, name), name);
  }
  await symlink("target", join(directory, "link"));
}

/** Changes some of everything, through whatever shows the tree at `directory`. */
async function change(directory: string): Promise<void> {
  await writeFile(join(directory, "etc/hosts"), "other content\n");
  await writeFile(join(directory, "etc/deep/new"), "");
  await rm(join(directory, "gone"), { recursive: true });
  // Without redirects overlayfs refuses to rename a directory of the lower tree, and mv copies it.
  await run("mv", [join(directory, "moved"), join(directory, "to")]);
  await rm(join(directory, "replaced"));
  await mkdir(join(directory, "replaced"));
  await writeFile(join(directory, "replaced/inside"), "");
  await rm(join(directory, "etc/deep/file"));
  await rm(join(directory, "link"));
  await symlink("elsewhere", join(directory, "link"));
}

const expected = [
  "C etc/hosts file 14",
  "D etc/deep/file file 13",
  "A etc/deep/new file 0",
  "D gone directory 0",
  "C link symlink 0",
  "D moved directory 0",
  "C replaced directory 0",
  "A replaced/inside file 0",
  "A to directory 0",
  "A to/file file 10",
].sort();

async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "compare-"));
  await use(directory.path);
}

describe("compareTrees", () => {
  test("finds what differs between two directories", () =>
    withDirectory(async (directory) => {
      const [lower, upper] = [join(directory, "lower"), join(directory, "upper")];
      await mkdir(lower);
      await fill(lower);
      await run("cp", ["-a", lower, upper]);
      assert.deepEqual(await changes({ lower, upper, touched: undefined }), []);
      await change(upper);
      assert.deepEqual((await changes({ lower, upper, touched: undefined })).sort(), expected);
    }));

  for (const redirects of ["on", "off"]) {
    test(`finds the same in an overlay by its upper directory, redirect_dir=${redirects}`, () =>
      withDirectory(async (directory) => {
        const names = ["lower", "upper", "work"].map((name) => join(directory, name));
        const [lower = "", upper = "", work = ""] = names;
        for (const name of names) {
          await mkdir(name);
        }
        await fill(lower);
        const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
        await using merged = await mountTemporarily(
          [
            {
              type: "overlay",
              source: "overlay",
              options: ["index=off", `redirect_dir=${redirects}`, ...options],
            },
          ],
          directory,
        );
        await change(merged.path);
        const whole = await changes({ lower, upper: merged.path, touched: undefined });
        assert.deepEqual(whole.toSorted(), expected);
        assert.deepEqual(await changes({ lower, upper: merged.path, touched: upper }), whole);
      }));
  }

  test("tells files of one size and time in whole seconds apart by their content", () =>
    withDirectory(async (directory) => {
      const [lower, upper] = [join(directory, "lower"), join(directory, "upper")];
      for (const [at, content] of [
        [lower, "one"],
        [upper, "two"],
      ] as const) {
        await mkdir(at);
        for (const [name, text] of [
          ["differs", content],
          ["same", "all"],
        ] as const) {
          await writeFile(join(at, name), text);
          await utimes(join(at, name), 1_600_000_000, 1_600_000_000);
        }
      }
      assert.deepEqual(await changes({ lower, upper, touched: undefined }), ["C differs file 3"]);
    }));

  test("has everything added where there was nothing, also names that are no text", () =>
    withDirectory(async (directory) => {
      await writeFile(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff])]), "");
      const found = compareTrees(
        { lower: undefined, upper: directory, touched: undefined },
        new AbortController().signal,
      );
      assert.deepEqual(
        (await Array.fromAsync(found)).map(({ kind, path }) => [kind, path]),
        [["A", Buffer.from([0xff])]],
      );
    }));

  test("stops when it is told to", () =>
    withDirectory(async (directory) => {
      await fill(directory);
      const found = compareTrees(
        { lower: undefined, upper: directory, touched: undefined },
        AbortSignal.abort(new Error("enough")),
      );
      await assert.rejects(Array.fromAsync(found), /enough/);
    }));
});
