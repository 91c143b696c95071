// Tells of everything that is beneath the directory it is given, a line each: see `treeAt`.
import { createHash } from "node:crypto";
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { lgetxattr, llistxattr } from "@oci-worker/libc/xattr";

const root = process.argv[2] ?? "";
/** The first path of each file, by the device and the inode. */
const firstPaths = new Map<string, string>();

function tell(path: string): void {
  const file = join(root, path);
  const stat = lstatSync(file, { bigint: true });
  const { mode, uid, gid, mtimeNs } = stat;
  const xattrs = llistxattr(file).map((name) => `${name}=${lgetxattr(file, name).toString("hex")}`);
  const facts = [mode.toString(8), uid, gid, mtimeNs, linksOf(path, stat), contentOf(file, stat)];
  process.stdout.write(`${JSON.stringify(path)} ${facts.join(" ")} ${xattrs.sort().join()}\n`);
  if (stat.isDirectory()) {
    tellAll(path);
  }
}

function tellAll(directory: string): void {
  for (const name of readdirSync(join(root, directory)).sort()) {
    tell(join(directory, name));
  }
}

/** Of a directory an overlay tells nothing that means anything. */
function linksOf(path: string, stat: BigIntStats): string {
  if (stat.isDirectory()) {
    return "";
  }
  const file = `${stat.dev} ${stat.ino}`;
  const first = firstPaths.get(file) ?? path;
  firstPaths.set(file, first);
  return `${stat.nlink} ${JSON.stringify(first)}`;
}

function contentOf(file: string, stat: BigIntStats): string {
  if (stat.isFile()) {
    return `${stat.size} ${createHash("sha256").update(readFileSync(file)).digest("hex")}`;
  }
  return stat.isSymbolicLink() ? readlinkSync(file) : `${stat.rdev}`;
}

tellAll("");
