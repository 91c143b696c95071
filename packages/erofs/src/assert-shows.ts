import assert from "node:assert/strict";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { makeDevice } from "@oci-worker/libc/file";
import { lgetxattr, llistxattr } from "@oci-worker/libc/xattr";
import type { Directory, Node } from "./node.ts";

/**
 * For tests: compares everything that the kernel tells of the tree at `path` with `root`, whose files have their content
 * in `data`.
 */
export function assertShows(path: string, root: Directory, data: Buffer): void {
  const names = new Map<Node, number>();
  const firstInode = new Map<Node, bigint>();
  const count = (node: Node): void => {
    names.set(node, (names.get(node) ?? 0) + 1);
    if (node.kind === "directory") {
      node.entries.values().forEach(count);
    }
  };
  count(root);

  const compare = (at: string, node: Node): void => {
    const stat = lstatSync(at, { bigint: true });
    assert.equal(Number(stat.mode & 0o7777n), node.permissions, at);
    assert.deepEqual([Number(stat.uid), Number(stat.gid)], [node.uid, node.gid], at);
    assert.equal(stat.mtimeNs, node.modifiedNs, at);
    assert.equal(stat.ino, firstInode.get(node) ?? stat.ino, at);
    firstInode.set(node, stat.ino);
    assert.deepEqual(llistxattr(at).sort(), [...node.xattrs.keys()].sort(), at);
    for (const [name, value] of node.xattrs) {
      assert.deepEqual(lgetxattr(at, name), Buffer.from(value), `${at} ${name}`);
    }
    switch (node.kind) {
      case "directory": {
        assert(stat.isDirectory(), at);
        const below = node.entries.values().filter(({ kind }) => kind === "directory");
        assert.equal(Number(stat.nlink), 2 + [...below].length, at);
        assert.deepEqual(readdirSync(at).sort(), [...node.entries.keys()].sort(), at);
        for (const [name, child] of node.entries) {
          compare(join(at, name), child);
        }
        return;
      }
      case "file":
        assert(stat.isFile(), at);
        assert.equal(Number(stat.nlink), names.get(node), at);
        assert.equal(Number(stat.size), node.sizeBytes, at);
        assert.deepEqual(
          readFileSync(at),
          data.subarray(node.dataBlock * 4096, node.dataBlock * 4096 + node.sizeBytes),
          at,
        );
        return;
      case "symbolic-link":
        assert.equal(readlinkSync(at), node.target);
        assert.equal(Number(stat.size), Buffer.byteLength(node.target), at);
        return;
      case "character-device":
      case "block-device":
        assert.equal(stat.isCharacterDevice(), node.kind === "character-device", at);
        assert.equal(stat.rdev, makeDevice(node.major, node.minor), at);
        return;
      case "fifo":
        assert(stat.isFIFO(), at);
        return;
      case "socket":
        assert(stat.isSocket(), at);
        return;
    }
  };
  compare(path, root);
}
