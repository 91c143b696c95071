import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { chmod, chown, lchown, link, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeDevice, mknod, S_IFBLK, S_IFCHR, S_IFIFO, setTimes } from "@oci-worker/libc/file";
import { lgetxattr, llistxattr, lsetxattr } from "@oci-worker/libc/xattr";

/**
 * For tests: fills `root` with an entry of every kind that can be transferred, with names that are hard to order.
 *
 * Wants root, for devices and owners.
 */
export async function makeSampleTree(root: string): Promise<void> {
  const at = (path: string) => join(root, path);
  for (const dir of ["a", "a/deep", "a/deep/er", "a-b", "empty", "sticky", "\u{1f600}"]) {
    await mkdir(at(dir));
  }
  await writeFile(at("a/file"), "hello\n");
  await writeFile(at("a-b/file"), Buffer.alloc(300_001, "0123456789"));
  await writeFile(at("a/deep/er/empty"), "");
  await writeFile(at("a/exact"), Buffer.alloc(32 * 1024, 7));
  await writeFile(at("a.b"), "sorts between a-b and a/");
  await writeFile(at("\uffee"), "sorts before the face in UTF-8 and after it in UTF-16");
  await link(at("a/file"), at("z-link"));
  await link(at("a/file"), at("a/file-link"));
  await symlink("/etc/passwd", at("absolute"));
  await symlink("../outside", at("a/dangling"));
  await symlink("a", at("to-directory"));
  mknod(at("pipe"), S_IFIFO | 0o640, 0n);
  mknod(at("character"), S_IFCHR | 0o620, makeDevice(1, 3));
  mknod(at("block"), S_IFBLK | 0o660, makeDevice(259, 70_000));
  await chmod(at("sticky"), 0o1777);
  await chown(at("a/file"), 1000, 1001);
  await chmod(at("a/file"), 0o4751);
  await chmod(at("a/deep"), 0o2555);
  await lchown(at("absolute"), 5, 6);
  lsetxattr(at("a/file"), "user.note", Buffer.from([0, 1, 255]));
  lsetxattr(at("empty"), "user.note", Buffer.from("on a directory"));
  for (const [index, path] of paths(root).toReversed().entries()) {
    // Before 1970, after 2038 and in between, none on a whole microsecond.
    const times = [-1_234_567_891n, 1_600_000_000_123_456_789n, 4_600_000_000_000_000_001n];
    setTimes(at(path), 0n, times[index % times.length] ?? 0n);
  }
}

/** For tests: everything about the tree at `root` that a transfer has to keep, by path. */
export function contentOf(root: string): Record<string, Record<string, unknown>> {
  const firstNames = new Map<bigint, string>();
  return Object.fromEntries(
    paths(root).map((path) => {
      const full = join(root, path);
      const { mode, uid, gid, mtimeNs, rdev, ino } = lstatSync(full, { bigint: true });
      const isLink = (mode & 0o170000n) === 0o120000n;
      const isFile = (mode & 0o170000n) === 0o100000n;
      const first = firstNames.get(ino) ?? path;
      firstNames.set(ino, first);
      const xattrs = llistxattr(full).map((name) => [name, lgetxattr(full, name).toString("hex")]);
      const facts = { mode: mode.toString(8), uid, gid, mtimeNs, rdev, first, xattrs };
      return [
        path,
        {
          ...facts,
          ...(isLink && { target: readlinkSync(full) }),
          ...(isFile && { content: readFileSync(full, "latin1") }),
        },
      ];
    }),
  );
}

/** Every path beneath `root`, a directory before what is in it. */
function paths(root: string, prefix = ""): string[] {
  return readdirSync(join(root, prefix), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = prefix + entry.name;
      return entry.isDirectory() ? [path, ...paths(root, `${path}/`)] : [path];
    });
}
