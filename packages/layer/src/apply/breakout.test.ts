import assert from "node:assert/strict";
import { existsSync, lstatSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { TarMember } from "../tar/writer.ts";
import { apply, directory, file, hardLink, makeScene, type Scene, symlink } from "./scene.ts";

const etcPasswd = [directory("etc", 0o770), file("etc/passwd", "inside")];

interface Case {
  readonly name: string;
  /** A layer that is there before. */
  readonly lower?: TarMember[];
  readonly layer: (scene: Scene) => TarMember[];
  readonly check: (at: (path: string) => string, scene: Scene) => void;
}

function sameFile(one: string, other: string): void {
  const [a, b] = [statSync(one, { bigint: true }), statSync(other, { bigint: true })];
  assert.deepEqual([a.dev, a.ino], [b.dev, b.ino]);
}

function content(path: string, wanted: string): void {
  assert.equal(readFileSync(path, "utf8"), wanted);
}

const unbroken = (at: (path: string) => string) => content(at("etc/unbroken"), "unbroken");
const linkedPasswd = (at: (path: string) => string) => sameFile(at("localpasswd"), at("etc/passwd"));

// By behaviour those of containerd's archive tests, and some more. Each of them runs between two looks at what is around
// the root, and links that lead out of it lead to something that exists there.
const cases: Case[] = [
  {
    name: "a file beneath an absolute link to a directory",
    layer: () => [directory("etc"), symlink("localetc", "/etc"), file("/localetc/unbroken", "unbroken")],
    check: unbroken,
  },
  {
    name: "a file beneath an absolute link that goes down and up",
    layer: () => [
      directory("etc"),
      directory("dummy"),
      symlink("localetc", "/dummy/../etc"),
      file("localetc/unbroken", "unbroken"),
    ],
    check: unbroken,
  },
  {
    name: "a file beneath a link to a link",
    layer: () => [
      directory("etc"),
      directory("dummy"),
      symlink("dummy/etc", "/etc"),
      symlink("localetc", "./dummy/etc"),
      file("localetc/unbroken", "unbroken"),
    ],
    check: unbroken,
  },
  {
    name: "a file beneath a link that climbs far above the root",
    layer: () => [
      directory("etc"),
      symlink("localetc", "../../../../../../etc"),
      file("localetc/unbroken", "unbroken"),
    ],
    check: unbroken,
  },
  {
    name: "a file beneath a link to a directory outside",
    layer: ({ outside }) => [symlink("out", `${outside}/directory`), file("out/file", "changed")],
    // The target is missing in the root, so it is made there.
    check: (at, { outside }) => content(at(`${outside}/directory/file`), "changed"),
  },
  {
    name: "a file over a link to a file outside",
    layer: ({ outside }) => [symlink("out", `${outside}/secret`), file("out", "mine")],
    check: (at) => {
      content(at("out"), "mine");
      assert(lstatSync(at("out")).isFile());
    },
  },
  {
    name: "an empty file that empties another through a link",
    layer: () => [
      directory("etc"),
      file("etc/emptied", "full"),
      symlink("localetc", "/etc"),
      file("localetc/emptied"),
    ],
    check: (at) => content(at("etc/emptied"), ""),
  },
  {
    name: "a link that replaces the directory which files are put into",
    layer: ({ outside }) => [
      directory("foo"),
      directory("foo/directory"),
      file("foo/directory/file", "first"),
      symlink("foo", outside),
      file("foo/directory/file", "second"),
      directory("foo"),
      directory("foo/directory"),
      file("foo/directory/file", "third"),
    ],
    check: (at, { outside }) => {
      content(at("foo/directory/file"), "third");
      content(at(`${outside}/directory/file`), "second");
    },
  },
  {
    name: "a hard link through a relative link",
    layer: () => [
      ...etcPasswd,
      directory("breakouts"),
      symlink("breakouts/d1", "../../etc"),
      hardLink("localpasswd", "/breakouts/d1/passwd"),
    ],
    check: linkedPasswd,
  },
  {
    name: "a hard link through a link that goes down and out",
    layer: () => [
      ...etcPasswd,
      directory("down"),
      symlink("d1", "down/../../../etc"),
      hardLink("localpasswd", "d1/passwd"),
    ],
    check: linkedPasswd,
  },
  {
    name: "a hard link through an absolute link",
    layer: () => [...etcPasswd, symlink("localetc", "/etc"), hardLink("localpasswd", "/localetc/passwd")],
    check: linkedPasswd,
  },
  {
    name: "a hard link through a link that climbs far above the root",
    layer: () => [
      ...etcPasswd,
      symlink("localetc", "../../../../../../../etc"),
      hardLink("localpasswd", "localetc/passwd"),
    ],
    check: linkedPasswd,
  },
  {
    name: "a hard link whose target climbs far above the root",
    layer: () => [...etcPasswd, hardLink("localpasswd", "../../../../../etc/passwd")],
    check: linkedPasswd,
  },
  {
    name: "a hard link with an absolute target",
    layer: () => [...etcPasswd, hardLink("localpasswd", "/etc/passwd")],
    check: linkedPasswd,
  },
  {
    name: "a link in place of the directory above the root",
    layer: () => [...etcPasswd, symlink("..", "/etc/"), hardLink("localpasswd", "/etc/passwd")],
    check: linkedPasswd,
  },
  {
    name: "a link with an empty name",
    layer: () => [...etcPasswd, symlink("", "/etc/"), hardLink("localpasswd", "/etc/passwd")],
    check: linkedPasswd,
  },
  {
    name: "a link whose name ends with the directory above it",
    layer: () => [
      ...etcPasswd,
      symlink("localetc/sub/..", "/etc/"),
      hardLink("localetc/localpasswd", "/etc/passwd"),
    ],
    check: (at) => sameFile(at("etc/localpasswd"), at("etc/passwd")),
  },
  {
    name: "a link over a directory",
    lower: [...etcPasswd, directory("localetc")],
    layer: () => [symlink("localetc", "../../etc"), hardLink("localetc/localpasswd", "/etc/passwd")],
    check: (at) => sameFile(at("etc/localpasswd"), at("etc/passwd")),
  },
  {
    name: "a directory over a link",
    lower: [...etcPasswd, symlink("localetc", "/etc")],
    layer: () => [directory("localetc"), file("localetc/passwd", "different")],
    check: (at) => {
      content(at("etc/passwd"), "inside");
      content(at("localetc/passwd"), "different");
      assert(!lstatSync(at("localetc")).isSymbolicLink());
    },
  },
  {
    name: "a file over one that has another hard link",
    lower: [...etcPasswd, hardLink("localpasswd", "etc/passwd")],
    layer: () => [file("localpasswd", "different")],
    check: (at) => {
      content(at("etc/passwd"), "inside");
      content(at("localpasswd"), "different");
    },
  },
  {
    name: "a hard link to a link, whose target comes later",
    layer: () => [
      directory("etc"),
      symlink("link", "/etc/passwd"),
      hardLink("copy", "link"),
      file("/etc/passwd", "after"),
    ],
    check: (at) => {
      assert.equal(readlinkSync(at("copy")), "/etc/passwd");
      assert.equal(lstatSync(at("copy")).ino, lstatSync(at("link")).ino);
    },
  },
  {
    name: "CVE-2021-32760: the mode of a hard link to a link is not given to what that points at",
    layer: ({ outside }) => [
      ...etcPasswd,
      symlink("inner", "/etc/passwd"),
      { ...hardLink("sketchy", "inner"), mode: 0o4777 },
      symlink("outer", `${outside}/secret`),
      { ...hardLink("sketchier", "outer"), mode: 0o4777, uid: 12, modifiedNs: 1n },
    ],
    check: (at) => assert.equal(statSync(at("etc/passwd")).mode & 0o7777, 0o644),
  },
  {
    name: "CVE-2025-47290: a parent that becomes a link while its directory is being filled",
    layer: ({ outside }) => [
      directory("a/b"),
      file("a/b/file", "one"),
      symlink("a/b", `${outside}/directory`),
      file("a/b/file", "two"),
      directory("c"),
      symlink("c", outside),
      hardLink("c/secret", "a/b/file"),
      { type: "fifo", name: "c/directory/pipe" },
    ],
    check: (at, { outside }) => {
      content(at(`${outside}/directory/file`), "two");
      content(at(`${outside}/secret`), "two");
    },
  },
  {
    name: "a whiteout of a link",
    lower: [...etcPasswd, symlink("localetc", "/etc")],
    layer: () => [file(".wh.localetc")],
    check: (at) => {
      content(at("etc/passwd"), "inside");
      assert(lstatSync(at("localetc"), { throwIfNoEntry: false }) === undefined);
    },
  },
  {
    name: "a whiteout beneath a link",
    lower: [...etcPasswd, file("etc/gone"), symlink("localetc", "/etc")],
    layer: () => [file("localetc/.wh.gone")],
    check: (at) => {
      content(at("etc/passwd"), "inside");
      assert(!existsSync(at("etc/gone")));
    },
  },
  {
    name: "a whiteout beneath a link that leads outside",
    layer: ({ outside }) => [symlink("out", outside), file("out/.wh.secret"), file("out/.wh.directory")],
    check: () => undefined,
  },
  {
    name: "an opaque marker beneath a link that leads outside",
    layer: ({ outside }) => [symlink("out", outside), file("out/.wh..wh..opq")],
    check: () => undefined,
  },
  {
    name: "a whiteout of a tree with links that lead outside",
    layer: ({ outside }) => [
      directory("tree/deep"),
      symlink("tree/deep/out", outside),
      symlink("tree/secret", `${outside}/secret`),
      file(".wh.tree"),
    ],
    check: (at) => assert(!existsSync(at("tree"))),
  },
  {
    name: "a whiteout beneath a link to nothing",
    lower: [...etcPasswd, symlink("localetc", "/dne")],
    layer: () => [file("localetc/.wh.etc")],
    check: (at) => content(at("etc/passwd"), "inside"),
  },
  {
    name: "a whiteout whose name goes down and up",
    lower: etcPasswd,
    layer: () => [file("dne/../.wh.etc")],
    check: (at) => assert(!existsSync(at("etc"))),
  },
  {
    name: "a directory that is named like a whiteout",
    lower: etcPasswd,
    layer: () => [file(".wh.etc/somefile", "content")],
    check: (at) => {
      content(at("etc/passwd"), "inside");
      content(at(".wh.etc/somefile"), "content");
    },
  },
];

describe("applyLayer keeps inside its root", () => {
  for (const { name, lower, layer, check } of cases) {
    test(name, async () => {
      await using scene = await makeScene();
      if (lower !== undefined) {
        await apply(scene, lower);
      }
      await apply(scene, layer(scene));
      check((path) => join(scene.root, path), scene);
    });
  }
});

interface Refusal {
  readonly name: string;
  readonly layer: (scene: Scene) => TarMember[];
  readonly message: RegExp;
}

const refusals: Refusal[] = [
  {
    name: "a name that climbs",
    layer: () => [file("../evil")],
    message: /"\.\.\/evil": its name climbs out of the root/,
  },
  {
    name: "a name that climbs after it has gone down",
    layer: () => [file("a/../../evil")],
    message: /climbs out of the root/,
  },
  {
    name: "a name that climbs far",
    layer: ({ outside }) => [file(`${"../".repeat(30)}${outside}/secret`, "evil")],
    message: /climbs out of the root/,
  },
  {
    name: "a directory that climbs",
    layer: () => [directory("../../evil")],
    message: /climbs out of the root/,
  },
  {
    name: "a whiteout that climbs",
    layer: () => [file("../.wh.outside")],
    message: /climbs out of the root/,
  },
  {
    name: "a hard link to a file outside",
    layer: ({ outside }) => [hardLink("copy", `${outside}/secret`)],
    message: /"copy": it is a hard link to ".*secret", which does not exist in the root/,
  },
  {
    name: "a hard link that climbs to a file outside",
    layer: ({ outside }) => [hardLink("copy", `${"../".repeat(30)}${outside}/secret`)],
    message: /does not exist in the root/,
  },
  {
    name: "a hard link to a file outside, through a link",
    layer: ({ outside }) => [symlink("out", outside), hardLink("copy", "out/secret")],
    message: /does not exist in the root/,
  },
  {
    name: "a hard link to a directory",
    layer: () => [directory("d"), hardLink("copy", "d")],
    message: /which cannot be linked to/,
  },
  {
    name: "a whiteout of its own directory",
    layer: () => [directory("etc"), file("etc/.wh..")],
    message: /"etc\/\.wh\.\.": as a whiteout it removes "\."/,
  },
  {
    name: "a whiteout of the directory above",
    layer: () => [directory("etc"), file("etc/.wh...")],
    message: /as a whiteout it removes "\.\."/,
  },
  { name: "a whiteout of the root", layer: () => [file(".wh..")], message: /as a whiteout it removes/ },
  {
    name: "a whiteout of what is above the root",
    layer: () => [file(".wh...")],
    message: /as a whiteout it removes/,
  },
  { name: "a whiteout of nothing", layer: () => [file("etc/.wh.")], message: /as a whiteout it removes ""/ },
  { name: "a file beneath a file", layer: () => [file("a"), file("a/b")], message: /entry "a\/b": ENOTDIR/ },
  {
    name: "a file beneath a link to a file",
    layer: () => [file("f"), symlink("a", "f"), file("a/b")],
    message: /entry "a\/b": ENOTDIR/,
  },
  {
    name: "a file beneath links that go round",
    layer: () => [symlink("a", "b"), symlink("b", "a"), file("a/b")],
    message: /entry "a\/b": ELOOP/,
  },
  {
    name: "a name longer than the kernel takes",
    layer: () => [file("n".repeat(256))],
    message: /ENAMETOOLONG/,
  },
  {
    name: "a path longer than the kernel takes",
    layer: () => [file("dir/".repeat(1025))],
    message: /ENAMETOOLONG/,
  },
];

describe("applyLayer refuses", () => {
  for (const { name, layer, message } of refusals) {
    test(name, async () => {
      await using scene = await makeScene();
      await assert.rejects(
        apply(scene, layer(scene)),
        (error) => error instanceof InvalidArgumentError && message.test(error.message),
      );
    });
  }
});
