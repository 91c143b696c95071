import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DataLossError } from "@oci-worker/errdefs";
import fc from "fast-check";
import { imageOf, tableOf } from "./image.ts";
import type { Directory, Node } from "./node.ts";
import { ErofsImage } from "./read-image.ts";
import { device, directory, SampleData, symbolicLink, whiteout } from "./sample-tree.ts";

function bytesOf(root: Directory, dataBlocks: number): Buffer {
  return imageOf(tableOf(root), { dataBlocks, uuid: Buffer.alloc(16) });
}

/** Compares all that the image says of the file `inode` and those beneath it with `node`. */
function assertHas(image: ErofsImage, inode: number, node: Node): void {
  const found = image.inode(inode);
  assert(found);
  assert.equal(found.mode & 0o7777, node.permissions);
  assert.deepEqual([found.uid, found.gid], [node.uid, node.gid]);
  assert.equal(found.modifiedSeconds * 10n ** 9n + BigInt(found.modifiedNanos), node.modifiedNs);
  const xattrs = [...image.xattrs(inode)].map(({ name, value }) => [name, Buffer.from(value)]);
  assert.deepEqual(
    Object.fromEntries(xattrs),
    Object.fromEntries([...node.xattrs].map(([name, value]) => [name, Buffer.from(value)])),
  );
  if (node.kind === "file") {
    assert.equal(found.sizeBytes, node.sizeBytes);
    assert(node.sizeBytes === 0 || image.dataOffset(found) === node.dataBlock * 4096);
  } else if (node.kind === "symbolic-link") {
    assert.equal(image.linkTarget(inode)?.toString(), node.target);
  }
  assert.equal(image.linkTarget(inode) === undefined, node.kind !== "symbolic-link");
  assert.equal(image.list(inode) === undefined, node.kind !== "directory");
  if (node.kind === "directory") {
    const listed = [...(image.list(inode) ?? [])].map(({ name, inode: each }) => [name.toString(), each]);
    const names = new Map(listed as [string, number][]);
    assert.deepEqual([...names.keys()].sort(), [".", "..", ...node.entries.keys()].sort());
    assert.equal(image.lookup(inode, Buffer.from("absent\0name")), undefined);
    const half = Math.floor(listed.length / 2);
    assert.deepEqual(
      [...(image.list(inode, half) ?? [])].map(({ name }) => name.toString()),
      listed.slice(half).map(([name]) => name),
    );
    for (const [name, child] of node.entries) {
      const bytes = Buffer.from(`(${name})`);
      const number = image.lookup(inode, bytes, 1, bytes.length - 1);
      assert.equal(number, names.get(name), name);
      assertHas(image, number ?? 0, child);
    }
  }
}

describe("ErofsImage", () => {
  test("has what was written, in directories of one block, of many, and of those that end with one", () => {
    const data = new SampleData();
    const entries = (count: number, length: number) =>
      Object.fromEntries(
        Array.from({ length: count }, (_, at) => [
          `${at}`.padStart(length, "n"),
          data.file(Buffer.alloc(at)),
        ]),
      );
    const root = directory({
      many: directory(entries(700, 20)),
      long: directory(entries(60, 255)),
      // With those of the dots they fill a block to the last byte: 12 + 1 + 12 + 2 + 28 * (12 + 128) + 12 + 137.
      full: directory({ ...entries(28, 128), ["x".repeat(137)]: whiteout() }),
      link: symbolicLink("t".repeat(4095)),
      short: symbolicLink("x"),
      null: device("character-device", 1, 3),
      empty: directory({}, { xattrs: new Map([["trusted.overlay.opaque", Buffer.from("y")]]) }),
      capable: data.file(Buffer.from("x"), {
        xattrs: new Map([
          ["security.capability", Buffer.alloc(20, 1)],
          ["system.posix_acl_access", Buffer.alloc(28, 2)],
          ["user.empty", Buffer.alloc(0)],
          ["user.long", Buffer.alloc(5000, 3)],
        ]),
      }),
    });
    const image = new ErofsImage(bytesOf(root, data.blocks));
    assertHas(image, image.rootInode, root);
    const number = image.lookup(image.rootInode, Buffer.from("null"));
    assert.equal(image.inode(number ?? 0)?.start, (1 << 8) | 3);
  });

  test("finds every name and no other", () => {
    const names = fc.uniqueArray(
      fc
        .string({ unit: "grapheme", minLength: 1, maxLength: 60 })
        .filter((text) => !/[/\0]/.test(text) && text !== "." && text !== ".." && text.isWellFormed()),
      { maxLength: 300 },
    );
    fc.assert(
      fc.property(names, names, (present, asked) => {
        const root = directory(Object.fromEntries(present.map((name) => [name, whiteout()])));
        const image = new ErofsImage(bytesOf(root, 0));
        assertHas(image, image.rootInode, root);
        for (const name of asked) {
          const isThere = image.lookup(image.rootInode, Buffer.from(name)) !== undefined;
          assert.equal(isThere, root.entries.has(name));
        }
      }),
      { numRuns: 50 },
    );
  });

  test("refuses what it has not written", () => {
    const bytes = bytesOf(directory({ a: whiteout() }), 0);
    const changed = Buffer.from(bytes);
    changed.writeUInt8(7, 1024 + 36);
    for (const image of [Buffer.alloc(0), Buffer.alloc(8192), changed, bytes.subarray(0, 4096)]) {
      assert.throws(() => new ErofsImage(image), DataLossError);
    }
  });
});
