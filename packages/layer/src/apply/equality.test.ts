import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  lchownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { makeDevice, mknod, S_IFBLK, S_IFCHR, S_IFIFO, setTimes } from "@oci-worker/libc/file";
import { lgetxattr, llistxattr, lsetxattr } from "@oci-worker/libc/xattr";
import { type ByteString, byteStringOf, bytesOf, pathOf } from "../tar/byte-string.ts";
import type { TarMember } from "../tar/writer.ts";
import { applyLayer } from "./apply.ts";
import { archiveOf, layerOf, makeScene } from "./scene.ts";
import { type TreeNode, treeOf } from "./tree.ts";

/** Has busybox and its links, and one of everything that a layer can hold and that somebody once forgot. */
function fillSource(source: string): void {
  const at = (path: string) => join(source, path);
  for (const path of ["bin", "dev", "d/e/f", "long", "home/user"]) {
    mkdirSync(at(path), { recursive: true });
  }
  execFileSync("cp", ["/bin/busybox", at("bin/busybox")]);
  for (const applet of ["sh", "ls", "cat"]) {
    linkSync(at("bin/busybox"), at(`bin/${applet}`));
  }
  symlinkSync("../bin/busybox", at("d/relative"));
  symlinkSync("/nowhere", at("d/absolute"));
  symlinkSync("x".repeat(300), at("d/long-target"));
  linkSync(at("d/relative"), at("d/second-name-of-a-link"));
  mknod(at("dev/null"), S_IFCHR | 0o666, makeDevice(1, 3));
  mknod(at("dev/disk"), S_IFBLK | 0o660, makeDevice(259, 1_000_000));
  mknod(at("dev/pipe"), S_IFIFO | 0o600, 0n);
  writeFileSync(at("empty"), "");
  writeFileSync(at("one-block"), "b".repeat(512));
  writeFileSync(Buffer.concat([Buffer.from(at("d/")), Buffer.from([0x66, 0xfc, 0xff, 0x80])]), "not UTF-8");
  writeFileSync(at("d/größe-名前"), "UTF-8");
  writeFileSync(at('d/with\nnewline and "quotes"'), "odd");
  writeFileSync(at(`long/${"n".repeat(200)}`), "long name");
  writeFileSync(at("sparse"), "begin");
  truncateSync(at("sparse"), 3_000_000);
  execFileSync("sh", ["-c", "printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none"], {
    cwd: source,
  });
  lsetxattr(at("home/user"), "user.directory", Buffer.from([0, 1, 2, 10, 61, 255]));
  lsetxattr(at("one-block"), "user.empty", Buffer.alloc(0));
  lsetxattr(at("one-block"), "user.big", Buffer.alloc(2000, "big"));
  lsetxattr(
    at("bin/busybox"),
    "security.capability",
    Buffer.from("0100000200200000000000000000000000000000", "hex"),
  );
  const owned = {
    "home/user": [1000, 1000, 0o2750],
    empty: [65_534, 3_000_000_000, 0o4711],
    "d/e": [5, 6, 0o1777],
  } as const;
  for (const [path, [uid, gid, mode]] of Object.entries(owned)) {
    lchownSync(at(path), uid, gid);
    chmodSync(at(path), mode);
  }
  setTimes(at("d/relative"), 1n, 981_173_106_987_654_321n);
  setTimes(at("one-block"), 1n, 1_000_000_001n);
  setTimes(at("home/user"), 1n, 1_234_567_890_000_000_001n);
  setTimes(at("empty"), 1n, 0n);
}

/** The members of a tree, as an exporter finds them. */
function membersOf(source: string): TarMember[] {
  const members: TarMember[] = [];
  for (const [path, node] of treeOf(source)) {
    const name = bytesOf(path as ByteString);
    const at = pathOf(`${byteStringOf(source)}/${path}` as ByteString);
    const [uid = 0, gid = 0] = node.owner.split(":").map(Number);
    const { mode, modifiedNs, type, firstLink } = node;
    const xattrs = Object.fromEntries(llistxattr(at).map((key) => [key, lgetxattr(at, key)]));
    const member = { name, mode, uid, gid, modifiedNs, xattrs };
    if (path !== "") {
      members.push(
        firstLink === path
          ? { ...member, ...ofType(type, at, node) }
          : { ...member, type: "hard link", linkName: bytesOf(firstLink as ByteString) },
      );
    }
  }
  return members;
}

function ofType(
  type: string,
  at: string | Buffer,
  { device }: TreeNode,
): Pick<TarMember, "type"> & Partial<TarMember> {
  const numbers = {
    deviceMajor: Number((device >> 8n) & 0xfffn),
    deviceMinor: Number((device & 0xffn) | ((device >> 12n) & 0xfff00n)),
  };
  switch (type) {
    case "40000":
      return { type: "directory" };
    case "120000":
      return { type: "symlink", linkName: readlinkSync(at, { encoding: "buffer" }) };
    case "20000":
      return { type: "character device", ...numbers };
    case "60000":
      return { type: "block device", ...numbers };
    case "10000":
      return { type: "fifo" };
    default:
      return { type: "file", content: readFileSync(at) };
  }
}

const gnuTar = ["tar", "--numeric-owner", "--format=pax", "--xattrs", "--xattrs-include=*"];
const bsdtar = ["bsdtar", "--numeric-owner", "--format=pax", "--xattrs", "--no-acls", "--no-fflags"];

const writers: { name: string; write: (source: string) => Buffer | Promise<Buffer> }[] = [
  { name: "our writer", write: (source) => archiveOf(membersOf(source)) },
  { name: "GNU tar", write: (source) => run([...gnuTar, "-C", source, "-cf", "-", "."]) },
  { name: "GNU tar, sparse", write: (source) => run([...gnuTar, "--sparse", "-C", source, "-cf", "-", "."]) },
  { name: "bsdtar", write: (source) => run([...bsdtar, "-C", source, "-cf", "-", "."]) },
  {
    name: "bsdtar, names without ./",
    write: (source) => run(["sh", "-c", `cd '${source}' && ${bsdtar.join(" ")} -cf - *`]),
  },
];

function run([program = "", ...args]: string[]): Buffer {
  return execFileSync(program, args, {
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, LC_ALL: "C.UTF-8" },
  });
}

/** All but the root itself, whose metadata is not the layer's. */
function withoutRoot(tree: Map<string, TreeNode>): Record<string, TreeNode> {
  tree.delete("");
  return Object.fromEntries(tree);
}

describe("a tree, unpacked from what was written of it, is the same", () => {
  const roots = [
    { kind: "tmpfs", compress: gzipSync },
    { kind: "bind", compress: zstdCompressSync },
    { kind: "overlay", compress: gzipSync },
  ] as const;
  for (const { name, write } of writers) {
    for (const { kind, compress } of roots) {
      test(`${name}, on ${kind}`, async () => {
        await using scene = await makeScene(kind);
        const source = join(scene.scratch, "source");
        mkdirSync(source);
        fillSource(source);
        const layer = await layerOf(scene, await write(source), compress);
        const applied = await applyLayer(layer, AbortSignal.timeout(60_000));
        assert.equal(applied.skippedCount, 0);
        assert.deepEqual(withoutRoot(treeOf(scene.root)), withoutRoot(treeOf(source)));
        assert(treeOf(scene.root).size > 25);
      });
    }
  }
});
