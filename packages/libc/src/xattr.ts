import { bind, check, cPath, type Path } from "./libc.ts";

const libc = {
  fgetxattr: bind("ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)"),
  flistxattr: bind("ssize_t flistxattr(int fd, void *list, size_t size)"),
  fsetxattr: bind("int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)"),
  lgetxattr: bind("ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size)"),
  llistxattr: bind("ssize_t llistxattr(const char *path, void *list, size_t size)"),
  lremovexattr: bind("int lremovexattr(const char *path, const char *name)"),
  lsetxattr: bind(
    "int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)",
  ),
};

/** The largest value and the largest list of names that Linux allows (xattr(7)). */
const maxBytes = 64 * 1024;

/** Where the kernel puts a list or a value: made once, because it is asked for each file and most have none. */
const scratch = Buffer.alloc(maxBytes);

/** fgetxattr(2): the value of the attribute `name`. */
export function fgetxattr(fd: number, name: string): Buffer {
  return scratchCopy(check("fgetxattr", libc.fgetxattr(fd, name, scratch, scratch.length)));
}

/** flistxattr(2): the names of the attributes. */
export function flistxattr(fd: number): string[] {
  return scratchNames(check("flistxattr", libc.flistxattr(fd, scratch, scratch.length)));
}

/** lgetxattr(2): the value of the attribute `name` of `path`, a symbolic link not followed. */
export function lgetxattr(path: Path, name: string): Buffer {
  return scratchCopy(check("lgetxattr", libc.lgetxattr(cPath(path), name, scratch, scratch.length), path));
}

/** llistxattr(2): the names of the attributes of `path`, a symbolic link not followed. */
export function llistxattr(path: Path): string[] {
  return scratchNames(check("llistxattr", libc.llistxattr(cPath(path), scratch, scratch.length), path));
}

/** lremovexattr(2). */
export function lremovexattr(path: Path, name: string): void {
  check("lremovexattr", libc.lremovexattr(cPath(path), name), path);
}

/** fsetxattr(2), creating or replacing the attribute. */
export function fsetxattr(fd: number, name: Path, value: Uint8Array): void {
  check("fsetxattr", libc.fsetxattr(fd, cPath(name), value, value.length, 0));
}

/** lsetxattr(2), creating or replacing the attribute. */
export function lsetxattr(path: Path, name: Path, value: Uint8Array): void {
  check("lsetxattr", libc.lsetxattr(cPath(path), cPath(name), value, value.length, 0), path);
}

function scratchCopy(size: number): Buffer {
  return Buffer.from(scratch.subarray(0, size));
}

/** Each name ends with a NUL. */
function scratchNames(size: number): string[] {
  return size === 0 ? [] : scratch.toString("utf8", 0, size).split("\0").slice(0, -1);
}
