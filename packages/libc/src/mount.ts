import { bind, check, cPath, type Path } from "./libc.ts";

// Flags of mount(2) (linux/mount.h).
export const MS_RDONLY = 0x1n;
export const MS_NOSUID = 0x2n;
export const MS_NODEV = 0x4n;
export const MS_NOEXEC = 0x8n;
export const MS_SYNCHRONOUS = 0x10n;
export const MS_REMOUNT = 0x20n;
export const MS_MANDLOCK = 0x40n;
export const MS_DIRSYNC = 0x80n;
export const MS_NOSYMFOLLOW = 0x100n;
export const MS_NOATIME = 0x400n;
export const MS_NODIRATIME = 0x800n;
export const MS_BIND = 0x1000n;
export const MS_REC = 0x4000n;
export const MS_SILENT = 0x8000n;
export const MS_UNBINDABLE = 0x2_0000n;
export const MS_PRIVATE = 0x4_0000n;
export const MS_SLAVE = 0x8_0000n;
export const MS_SHARED = 0x10_0000n;
export const MS_RELATIME = 0x20_0000n;
export const MS_STRICTATIME = 0x100_0000n;
export const MS_LAZYTIME = 0x200_0000n;

/** MNT_DETACH of umount2(2): take the mount out of sight now, let go of it when it is idle. */
export const MNT_DETACH = 0x2;
/** UMOUNT_NOFOLLOW of umount2(2): do not follow the target if it is a symbolic link. */
export const UMOUNT_NOFOLLOW = 0x8;

const AT_FDCWD = -100;

const libc = {
  mount: bind(
    "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
  ),
  statfs: bind("int statfs(const char *path, void *result)"),
  statx: bind("int statx(int directory, const char *path, int flags, unsigned int mask, void *result)"),
  umount2: bind("int umount2(const char *target, int flags)"),
};

/** mount(2). Empty strings for the arguments that a call does not use. */
export function mount(source: string, target: string, type: string, flags: bigint, data: string): void {
  check("mount", libc.mount(source, target, type, flags, data), target);
}

/** umount2(2). */
export function umount2(target: Path, flags: number): void {
  check("umount2", libc.umount2(cPath(target), flags), target);
}

/** Where the flags stand in struct statfs, and its size, on 64-bit machines (asm-generic/statfs.h). */
const [statfsFlagsAt, statfsBytes] = [80, 120];

/**
 * The flags of the mount that `path` is in, by statfs(2): {@link MS_RDONLY}, {@link MS_NOSUID}, {@link MS_NODEV},
 * {@link MS_NOEXEC}, {@link MS_NOATIME} and {@link MS_NODIRATIME}, and others whose bits are not those of mount(2).
 */
export function mountFlagsOf(path: string): bigint {
  const result = Buffer.alloc(statfsBytes);
  check("statfs", libc.statfs(path, result), path);
  return result.readBigUInt64LE(statfsFlagsAt);
}

// statx(2): the flag of the attributes that says "mount root", and where the attributes and the mask of those that the
// kernel knows stand in struct statx (linux/stat.h).
const STATX_ATTR_MOUNT_ROOT = 0x2000n;
const [attributesAt, attributesMaskAt, statxBytes] = [8, 56, 256];
const AT_SYMLINK_NOFOLLOW = 0x100;

/**
 * Whether something is mounted on `path`, a symbolic link not followed: statx(2). Unlike a comparison of device numbers
 * it sees a bind mount within one file system too. Undefined on kernels before 5.8, which do not tell.
 */
export function isMountRoot(path: Path): boolean | undefined {
  const result = Buffer.alloc(statxBytes);
  check("statx", libc.statx(AT_FDCWD, cPath(path), AT_SYMLINK_NOFOLLOW, 0, result), path);
  const isKnown = (result.readBigUInt64LE(attributesMaskAt) & STATX_ATTR_MOUNT_ROOT) !== 0n;
  return isKnown ? (result.readBigUInt64LE(attributesAt) & STATX_ATTR_MOUNT_ROOT) !== 0n : undefined;
}

// The mount calls that take a file system's parameters one by one. Their numbers are the same on every
// architecture (asm-generic/unistd.h); C libraries before 2022 have no functions for them.
const SYS_open_tree = 428;
const SYS_move_mount = 429;
const SYS_fsopen = 430;
const SYS_fsconfig = 431;
const SYS_fsmount = 432;
const SYS_mount_setattr = 442;

const OPEN_TREE_CLONE = 0x1;
const OPEN_TREE_CLOEXEC = 0o2000000;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOVE_MOUNT_F_EMPTY_PATH = 0x4;

const syscalls = {
  fsopen: bind("long syscall(long number, const char *type, unsigned int flags)"),
  fsconfig: bind(
    "long syscall(long number, int fd, unsigned int command, const char *key, const char *value, int aux)",
  ),
  fsmount: bind("long syscall(long number, int fd, unsigned int flags, unsigned int attributes)"),
  open_tree: bind("long syscall(long number, int directory, const char *path, unsigned int flags)"),
  mount_setattr: bind(
    "long syscall(long number, int directory, const char *path, unsigned int flags, const void *attributes, size_t size)",
  ),
  move_mount: bind(
    "long syscall(long number, int fromDirectory, const char *from, int toDirectory, const char *to, unsigned int flags)",
  ),
};

/** fsopen(2): a descriptor on which a file system of `type` is configured. The caller closes it. */
export function fsopen(type: string): number {
  return check("fsopen", syscalls.fsopen(SYS_fsopen, type, FSOPEN_CLOEXEC));
}

/** fsconfig(2) with FSCONFIG_SET_STRING. */
export function fsconfigString(fd: number, key: string, value: string): void {
  check(
    "fsconfig",
    syscalls.fsconfig(SYS_fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0),
    `${key}=${value}`,
  );
}

/** fsconfig(2) with FSCONFIG_SET_FLAG. */
export function fsconfigFlag(fd: number, key: string): void {
  check("fsconfig", syscalls.fsconfig(SYS_fsconfig, fd, FSCONFIG_SET_FLAG, key, null, 0), key);
}

/** fsconfig(2) with FSCONFIG_CMD_CREATE: makes the file system that was configured. */
export function fsconfigCreate(fd: number): void {
  check("fsconfig", syscalls.fsconfig(SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, null, null, 0));
}

/** fsmount(2): a mount of the file system, not yet attached anywhere. The caller closes it. */
export function fsmount(fd: number, attributes: number): number {
  return check("fsmount", syscalls.fsmount(SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes));
}

/** move_mount(2): attaches the mount `fd` at `target`. */
export function moveMount(fd: number, target: string): void {
  check(
    "move_mount",
    syscalls.move_mount(SYS_move_mount, fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH),
    target,
  );
}

/**
 * open_tree(2) with OPEN_TREE_CLONE: a mount of what is at `path`, not yet attached anywhere. The caller closes it.
 *
 * @param recursive whether what is mounted beneath comes along.
 */
export function openTreeClone(path: string, recursive: boolean): number {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0);
  return check("open_tree", syscalls.open_tree(SYS_open_tree, AT_FDCWD, path, flags), path);
}

/** MOUNT_ATTR_RDONLY of mount_setattr(2). */
export const MOUNT_ATTR_RDONLY = 0x1n;

const MOUNT_ATTR_IDMAP = 0x10_0000n;

/**
 * mount_setattr(2) with MOUNT_ATTR_IDMAP on the mount `fd`, which is not attached yet: shows its files with the ids that
 * the user namespace `userNamespace` maps theirs to. Linux 5.12, and a file system that can.
 *
 * @param attributes to set besides, such as {@link MOUNT_ATTR_RDONLY}.
 */
export function mapIDs(fd: number, userNamespace: number, recursive: boolean, attributes = 0n): void {
  // struct mount_attr (linux/mount.h): what to set, what to clear, propagation, user namespace.
  const wanted = Buffer.alloc(32);
  wanted.writeBigUInt64LE(MOUNT_ATTR_IDMAP | attributes, 0);
  wanted.writeBigUInt64LE(BigInt(userNamespace), 24);
  const flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
  check("mount_setattr", syscalls.mount_setattr(SYS_mount_setattr, fd, "", flags, wanted, wanted.length));
}
