import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { lgetxattr, llistxattr } from "@oci-worker/libc/xattr";
import { type ByteString, byteStringOf, pathOf } from "../tar/byte-string.ts";

/** All that can be told apart about one file. */
export interface TreeNode {
  readonly type: string;
  readonly mode: number;
  readonly owner: string;
  readonly modifiedNs: bigint;
  readonly device: bigint;
  readonly sizeBytes: bigint;
  readonly content: string;
  readonly xattrs: Readonly<Record<string, string>>;
  /** The first path of this inode, in order. */
  readonly firstLink: string;
}

/** Everything beneath `directory`, by path, in order: for tests that compare trees. Empty for `directory` itself. */
export function treeOf(directory: string): Map<string, TreeNode> {
  const nodes = new Map<string, TreeNode>();
  const firstLinks = new Map<string, string>();
  const visit = (path: string) => {
    const at = pathOf(`${byteStringOf(directory)}/${path}` as ByteString);
    const stat = lstatSync(at, { bigint: true });
    const inode = `${stat.dev}:${stat.ino}`;
    if (!firstLinks.has(inode)) {
      firstLinks.set(inode, path);
    }
    const isDirectory = stat.isDirectory();
    nodes.set(path, {
      type: (stat.mode & 0o170000n).toString(8),
      mode: Number(stat.mode & 0o7777n),
      owner: `${stat.uid}:${stat.gid}`,
      modifiedNs: stat.mtimeNs,
      device: stat.rdev,
      sizeBytes: isDirectory ? 0n : stat.size,
      content: stat.isFile()
        ? createHash("sha256").update(readFileSync(at)).digest("hex")
        : stat.isSymbolicLink()
          ? readlinkSync(at, { encoding: "latin1" })
          : "",
      xattrs: Object.fromEntries(
        llistxattr(at)
          .sort()
          .map((name) => [name, lgetxattr(at, name).toString("latin1")]),
      ),
      firstLink: firstLinks.get(inode) ?? path,
    });
    if (isDirectory) {
      for (const name of readdirSync(at, { encoding: "latin1" }).sort()) {
        visit(path === "" ? name : `${path}/${name}`);
      }
    }
  };
  visit("");
  return nodes;
}
