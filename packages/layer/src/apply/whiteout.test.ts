import assert from "node:assert/strict";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { lgetxattr } from "@oci-worker/libc/xattr";
import { mountAll, unmount } from "@oci-worker/mounts/mount";
import type { TarMember } from "../tar/writer.ts";
import {
  apply,
  directory,
  file,
  hardLink,
  makeScene,
  overlayParts,
  type RootKind,
  symlink,
} from "./scene.ts";

/** What every case finds beneath its layer. */
const lowerFiles = ["a/keep", "a/gone", "a/sub/deep", "a/sub/other", "b/x", "c"];

async function fillLower(lower: string): Promise<void> {
  for (const path of lowerFiles) {
    await mkdir(join(lower, path, ".."), { recursive: true });
    await writeFile(join(lower, path), `lower ${path}`);
  }
}

/** Every file, with its content. */
function filesIn(root: string): Record<string, string> {
  const names = readdirSync(root, { recursive: true, encoding: "utf8" }).sort();
  return Object.fromEntries(
    names
      .filter((name) => lstatSync(join(root, name)).isFile())
      .map((name) => [name, readFileSync(join(root, name), "utf8")]),
  );
}

interface Case {
  readonly name: string;
  readonly layer: TarMember[];
  /** What is left of {@link lowerFiles}. */
  readonly kept: string[];
  /** What the layer adds. */
  readonly added?: Record<string, string>;
}

const lowerOnly = (...gone: string[]) => lowerFiles.filter((path) => !gone.includes(path));
const opaque = "a/.wh..wh..opq";

const cases: Case[] = [
  { name: "of a file", layer: [file("a/.wh.gone")], kept: lowerOnly("a/gone") },
  { name: "of a directory", layer: [file(".wh.a")], kept: ["b/x", "c"] },
  { name: "of nothing", layer: [file("a/.wh.none"), file("none/.wh.a")], kept: lowerFiles },
  {
    name: "that is no file",
    layer: [directory("a/.wh.sub"), symlink(".wh.c", "x")],
    kept: ["a/keep", "a/gone", "b/x"],
  },
  {
    name: "that has content",
    layer: [file("a/.wh.gone", "content"), file("next", "n")],
    kept: lowerOnly("a/gone"),
    added: { next: "n" },
  },
  {
    name: "before a file of the same name",
    layer: [file("a/.wh.gone"), file("a/gone", "new")],
    kept: lowerOnly("a/gone"),
    added: { "a/gone": "new" },
  },
  {
    name: "after a file of the same name",
    layer: [file("a/gone", "new"), file("a/.wh.gone")],
    kept: lowerOnly("a/gone"),
  },
  {
    name: "before a directory of the same name",
    layer: [file("a/.wh.sub"), directory("a/sub"), file("a/sub/new", "new")],
    kept: ["a/gone", "a/keep", "b/x", "c"],
    added: { "a/sub/new": "new" },
  },
  { name: "that makes a directory opaque", layer: [file(opaque)], kept: ["b/x", "c"] },
  {
    name: "that makes a directory opaque before its files",
    layer: [directory("a"), file(opaque), file("a/new", "new"), file("a/gone", "own")],
    kept: ["b/x", "c"],
    added: { "a/new": "new", "a/gone": "own" },
  },
  {
    name: "that makes a directory opaque after its files",
    layer: [directory("a"), file("a/new", "new"), file("a/gone", "own"), file(opaque)],
    kept: ["b/x", "c"],
    added: { "a/new": "new", "a/gone": "own" },
  },
  {
    name: "that makes a directory opaque amid its files",
    layer: [file("a/new", "new"), file(opaque), file("a/gone", "own")],
    kept: ["b/x", "c"],
    added: { "a/new": "new", "a/gone": "own" },
  },
  {
    name: "that makes a directory opaque, with files deep in it",
    layer: [file("a/sub/new", "new"), file("a/sub/other", "own"), file(opaque)],
    kept: ["b/x", "c"],
    added: { "a/sub/new": "new", "a/sub/other": "own" },
  },
  {
    name: "that makes a directory opaque through a link",
    layer: [file("a/new", "new"), symlink("way", "/a"), file("way/more", "more"), file("way/.wh..wh..opq")],
    kept: ["b/x", "c"],
    added: { "a/new": "new", "a/more": "more" },
  },
  {
    name: "that makes a directory opaque, and another of the same",
    layer: [file("a/new", "new"), file(opaque), file("a/newer", "newer"), file(opaque)],
    kept: ["b/x", "c"],
    added: { "a/new": "new", "a/newer": "newer" },
  },
  {
    name: "that makes the root opaque",
    layer: [file("a/new", "new"), file(".wh..wh..opq")],
    kept: [],
    added: { "a/new": "new" },
  },
  {
    name: "that makes a directory opaque that is not there",
    layer: [file("new/.wh..wh..opq"), file("new/x", "x")],
    kept: lowerFiles,
    added: { "new/x": "x" },
  },
];

for (const kind of ["bind", "overlay"] as const satisfies RootKind[]) {
  describe(`a whiteout on a ${kind} mount`, () => {
    for (const { name, layer, kept, added = {} } of cases) {
      test(name, async () => {
        await using scene = await makeScene(kind, fillLower);
        if (kind === "bind") {
          await fillLower(scene.root);
        }
        await apply(scene, layer);
        const wanted = Object.fromEntries(kept.map((path) => [path, `lower ${path}`]));
        assert.deepEqual(
          filesIn(scene.root),
          Object.fromEntries(Object.entries({ ...wanted, ...added }).sort()),
        );
      });
    }
  });
}

test("a whiteout on an overlay mount becomes one of overlayfs", async () => {
  await using scene = await makeScene("overlay", fillLower);
  await apply(scene, [file("a/.wh.gone"), file(".wh.c")]);
  for (const path of ["a/gone", "c"]) {
    const found = lstatSync(join(overlayParts(scene).upper, path));
    assert(found.isCharacterDevice());
    assert.equal(found.rdev, 0);
  }
});

test("a directory that replaces one on an overlay mount is opaque", async () => {
  await using scene = await makeScene("overlay", fillLower);
  await apply(scene, [file(".wh.a"), directory("a"), file("a/own", "own")]);
  const { upper } = overlayParts(scene);
  assert.equal(lgetxattr(join(upper, "a"), "trusted.overlay.opaque").toString(), "y");
  assert.deepEqual(readdirSync(join(scene.root, "a")), ["own"]);
});

describe("a whiteout of a tree in which something is mounted", () => {
  for (const type of ["bind", "tmpfs"]) {
    test(`refuses to go behind a ${type} mount`, async () => {
      await using scene = await makeScene("bind");
      const mountPoint = join(scene.root, "tree", "mounted");
      mkdirSync(mountPoint, { recursive: true });
      // A bind mount within one file system has the device number of what is around it.
      const source = join(scene.scratch, "precious");
      mkdirSync(source);
      await mountAll([{ type, source, options: type === "bind" ? ["rbind"] : [] }], mountPoint);
      await using undo = new AsyncDisposableStack();
      undo.defer(() => unmount(mountPoint));
      writeFileSync(join(mountPoint, "data"), "data");
      const whiteout = file(".wh.tree");
      await assert.rejects(
        apply(scene, [whiteout]),
        (error) =>
          error instanceof FailedPreconditionError &&
          /"tree\/mounted": something is mounted/.test(error.message),
      );
      await assert.rejects(apply(scene, [file("tree/.wh..wh..opq")]), FailedPreconditionError);
      await assert.rejects(apply(scene, [file("tree", "instead")]), FailedPreconditionError);
      assert.equal(readFileSync(join(mountPoint, "data"), "utf8"), "data");
    });
  }
});

test("a whiteout removes one name of a file that has two", async () => {
  await using scene = await makeScene();
  await apply(scene, [file("one", "content"), hardLink("two", "one")]);
  await apply(scene, [file(".wh.one")]);
  assert(!existsSync(join(scene.root, "one")));
  assert.equal(readFileSync(join(scene.root, "two"), "utf8"), "content");
});
