import assert from "node:assert/strict";
import { linkSync } from "node:fs";
import { mkdir, mkdtempDisposable, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { lsetxattr } from "@oci-worker/libc/xattr";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { bytesOf } from "../tar/byte-string.ts";
import type { TarEntry } from "../tar/entry.ts";
import { TarReader } from "../tar/reader.ts";
import type { Trees } from "./compare-trees.ts";
import { layerArchive } from "./layer-archive.ts";

const patient = new AbortController().signal;

/** The entries of the layer between two trees. */
async function entriesOf(trees: Trees): Promise<TarEntry[]> {
  const entries: TarEntry[] = [];
  const reader = new TarReader({
    entry: (entry) => entries.push(entry),
    content: () => undefined,
    entryEnd: () => undefined,
  });
  for await (const piece of layerArchive(trees, patient)) {
    reader.write(Buffer.from(piece));
  }
  reader.end();
  return entries;
}

/** As "type name", with what a link points at. */
function listing(entries: readonly TarEntry[]): string[] {
  return entries.map(({ type, name, linkName }) =>
    [type, bytesOf(name).toString(), ...(linkName === "" ? [] : [bytesOf(linkName).toString()])].join(" "),
  );
}

/** Two directories with the same files in them. */
async function withTrees(use: (trees: Trees & { readonly lower: string }) => Promise<void>): Promise<void> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "layer-"));
  const [lower, upper] = [join(directory.path, "lower"), join(directory.path, "upper")];
  for (const tree of [lower, upper]) {
    await mkdir(join(tree, "a/b"), { recursive: true });
    await writeFile(join(tree, "a/b/same"), "same");
    await writeFile(join(tree, "gone"), "gone");
    for (const name of ["a/b/same", "gone"]) {
      await utimes(join(tree, name), 1_600_000_000, 1_600_000_000);
    }
  }
  await use({ lower, upper, touched: undefined });
}

describe("a layer", () => {
  test("has what is new with the directories that it is in, and whiteouts for what is gone", () =>
    withTrees(async (trees) => {
      await writeFile(join(trees.upper, "a/b/new"), "new");
      await symlink("new", join(trees.upper, "a/b/to-new"));
      await rm(join(trees.upper, "gone"));
      assert.deepEqual(listing(await entriesOf(trees)), [
        "directory a/",
        "directory a/b/",
        "file a/b/new",
        "symlink a/b/to-new new",
        "file .wh.gone",
      ]);
    }));

  test("is empty where nothing has changed, and complete where there was nothing", () =>
    withTrees(async (trees) => {
      assert.deepEqual(await entriesOf(trees), []);
      assert.deepEqual(listing(await entriesOf({ ...trees, lower: undefined })), [
        "directory a/",
        "directory a/b/",
        "file a/b/same",
        "file gone",
      ]);
    }));

  test("has a file that got another name once more, because links lead nowhere but into their own layer", () =>
    withTrees(async (trees) => {
      linkSync(join(trees.upper, "a/b/same"), join(trees.upper, "again"));
      assert.deepEqual(listing(await entriesOf(trees)), [
        "file again",
        "directory a/",
        "directory a/b/",
        "hard link a/b/same again",
      ]);
    }));

  test("tells of attributes, of names that are no text, and nothing that it cannot hold", () =>
    withTrees(async (trees) => {
      lsetxattr(join(trees.upper, "a/b/same"), "user.note", Buffer.from([1, 0, 255]));
      await writeFile(Buffer.concat([Buffer.from(`${trees.upper}/`), Buffer.from([0xff])]), "");
      await using server = createServer();
      await new Promise<void>((resolve) => server.listen(join(trees.upper, "socket"), resolve));
      const [, , noted, last, ...others] = await entriesOf(trees);
      assert.deepEqual(noted?.xattrs, [{ name: "user.note", value: Buffer.from([1, 0, 255]) }]);
      assert.deepEqual(bytesOf(last?.name ?? assert.fail()), Buffer.from([0xff]));
      assert.deepEqual(others, []);
    }));

  test("cannot have what is called like a whiteout", () =>
    withTrees(async (trees) => {
      await writeFile(join(trees.upper, "a/.wh.x"), "");
      await assert.rejects(
        entriesOf(trees),
        /Cannot make a layer with "a\/\.wh\.x": its name begins with \.wh\./,
      );
    }));

  test("is the same by the upper directory of an overlay as by comparing all", async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "layer-"));
    const [lower = "", upper = "", work = ""] = ["lower", "upper", "work"].map((name) =>
      join(directory.path, name),
    );
    await Promise.all([lower, upper, work].map((path) => mkdir(path)));
    await mkdir(join(lower, "d"));
    await writeFile(join(lower, "d/old"), "old");
    await writeFile(join(lower, "linked"), "linked");
    const options = ["index=off", `lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
    await using merged = await mountTemporarily(
      [{ type: "overlay", source: "overlay", options }],
      directory.path,
    );
    await rm(join(merged.path, "d"), { recursive: true });
    await mkdir(join(merged.path, "d"));
    await writeFile(join(merged.path, "d/new"), "new");
    linkSync(join(merged.path, "linked"), join(merged.path, "link"));
    const whole = await entriesOf({ lower, upper: merged.path, touched: undefined });
    assert.deepEqual(listing(whole), [
      "directory d/",
      "file d/new",
      "file d/.wh.old",
      "file link",
      "hard link linked link",
    ]);
    assert.deepEqual(await entriesOf({ lower, upper: merged.path, touched: upper }), whole);
  });
});
