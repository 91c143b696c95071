import { bind, check, cPath, type Path } from "./libc.ts";

// File types of mknod(2) (inode(7)).
export const S_IFIFO = 0o010000;
export const S_IFCHR = 0o020000;
export const S_IFBLK = 0o060000;
export const S_IFSOCK = 0o140000;

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;

// For pipe2(2) and fcntl(2).
const O_CLOEXEC = 0o2000000;
const F_SETPIPE_SZ = 1031;

// Operations of flock(2).
const LOCK_EX = 2;
const LOCK_NB = 4;

// Whence of lseek(2): the beginning, where it is, and what finds data and holes of a sparse file.
const SEEK_SET = 0;
const SEEK_CUR = 1;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const libc = {
  copy_file_range: bind(
    "ssize_t copy_file_range(int in, void *inOffset, int out, void *outOffset, size_t length, unsigned int flags)",
  ),
  fallocate64: bind("int fallocate64(int fd, int mode, int64_t offset, int64_t length)"),
  fcntl: bind("int fcntl(int fd, int command, int argument)"),
  flock: bind("int flock(int fd, int operation)"),
  futimens: bind("int futimens(int fd, const void *times)"),
  lseek64: bind("int64_t lseek64(int fd, int64_t offset, int whence)"),
  mknod: bind("int mknod(const char *path, uint32_t mode, uint64_t device)"),
  pipe2: bind("int pipe2(void *fds, int flags)"),
  syncfs: bind("int syncfs(int fd)"),
  utimensat: bind("int utimensat(int directory, const char *path, const void *times, int flags)"),
};

/** copy_file_range(2) at the offsets of both descriptors, in the kernel; shares blocks where the file system can. */
export function copyFileRange(from: number, to: number, length: number): number {
  return check("copy_file_range", libc.copy_file_range(from, null, to, null, length, 0));
}

/**
 * flock(2), exclusive and without waiting. The lock ends with the descriptor, so also with the process.
 *
 * @returns false if another process holds it.
 */
export function tryLockExclusively(fd: number): boolean {
  try {
    check("flock", libc.flock(fd, LOCK_EX | LOCK_NB));
    return true;
  } catch (error) {
    if (
      error instanceof Error &&
      "code" in error &&
      (error.code === "EWOULDBLOCK" || error.code === "EAGAIN")
    ) {
      return false;
    }
    throw error;
  }
}

/** fallocate(2) of the first `length` bytes: the file gets that long and has room for all of it. */
export function allocate(fd: number, length: number): void {
  check("fallocate", libc.fallocate64(fd, 0, 0, length));
}

// Modes of fallocate(2) (linux/falloc.h).
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** fallocate(2) with FALLOC_FL_PUNCH_HOLE: gives the blocks that are wholly in the range back; what was in it reads as zeros. */
export function punchHole(fd: number, offset: number, length: number): void {
  check("fallocate", libc.fallocate64(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length));
}

/** pipe2(2): descriptors that block, as Node's own pipes do not, and that no program started later inherits. */
export function openPipe(): { readFd: number; writeFd: number } {
  const fds = Buffer.alloc(8);
  check("pipe2", libc.pipe2(fds, O_CLOEXEC));
  return { readFd: fds.readInt32LE(0), writeFd: fds.readInt32LE(4) };
}

/** fcntl(2) with F_SETPIPE_SZ: how much a pipe holds before its writer has to wait. */
export function setPipeSize(fd: number, bytes: number): void {
  check("fcntl", libc.fcntl(fd, F_SETPIPE_SZ, bytes));
}

/** lseek(2) to where `fd` is already: how far whoever shares it, such as a child process, has read. */
export function offsetOf(fd: number): number {
  return check("lseek", libc.lseek64(fd, 0, SEEK_CUR));
}

/** lseek(2) to the next data at or after `offset`. Throws ENXIO where only a hole is left. */
export function seekData(fd: number, offset: number): number {
  return check("lseek", libc.lseek64(fd, offset, SEEK_DATA));
}

/** lseek(2) to the next hole at or after `offset`; the end of the file counts as one. */
export function seekHole(fd: number, offset: number): number {
  return check("lseek", libc.lseek64(fd, offset, SEEK_HOLE));
}

/** lseek(2) to `offset` from the beginning: where the next {@link copyFileRange} reads or writes. */
export function seekTo(fd: number, offset: number): void {
  check("lseek", libc.lseek64(fd, offset, SEEK_SET));
}

/** mknod(2) with the device number that {@link makeDevice} makes; 0 for what is no device. */
export function mknod(path: Path, mode: number, device: bigint): void {
  check("mknod", libc.mknod(cPath(path), mode, device), path);
}

/** makedev(3): the 64-bit device number of `major` and `minor` in the layout of Linux. */
export function makeDevice(major: number, minor: number): bigint {
  const [wideMajor, wideMinor] = [BigInt(major), BigInt(minor)];
  return (
    (wideMinor & 0xffn) |
    ((wideMajor & 0xfffn) << 8n) |
    ((wideMinor & ~0xffn) << 12n) |
    ((wideMajor & ~0xfffn) << 32n)
  );
}

/** major(3) and minor(3): what {@link makeDevice} has put together. */
export function splitDevice(device: bigint): { readonly major: number; readonly minor: number } {
  return {
    major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn)),
    minor: Number((device & 0xffn) | ((device >> 12n) & ~0xffn & 0xffff_ffffn)),
  };
}

/** syncfs(2): writes everything of the file system that `fd` is on to its disk. Blocks until it is there. */
export function syncfs(fd: number): void {
  check("syncfs", libc.syncfs(fd));
}

const times = Buffer.alloc(32);
const nanosPerSecond = 1_000_000_000n;

/** utimensat(2), a symbolic link not followed. Both times in nanoseconds since 1970, which Node's own cannot set. */
export function setTimes(path: Path, accessedNs: bigint, modifiedNs: bigint): void {
  writeTimespec(accessedNs, 0);
  writeTimespec(modifiedNs, 16);
  check("utimensat", libc.utimensat(AT_FDCWD, cPath(path), times, AT_SYMLINK_NOFOLLOW), path);
}

/** futimens(3): {@link setTimes} of an open file. */
export function setTimesOf(fd: number, accessedNs: bigint, modifiedNs: bigint): void {
  writeTimespec(accessedNs, 0);
  writeTimespec(modifiedNs, 16);
  check("futimens", libc.futimens(fd, times));
}

function writeTimespec(ns: bigint, offset: number): void {
  const remainder = ns % nanosPerSecond;
  // Before 1970 the seconds round down, so that the nanoseconds stay positive (timespec(3)).
  const nanos = remainder < 0n ? remainder + nanosPerSecond : remainder;
  times.writeBigInt64LE((ns - nanos) / nanosPerSecond, offset);
  times.writeBigInt64LE(nanos, offset + 8);
}

const SYS_openat2 = 437;

/** RESOLVE_IN_ROOT of openat2(2): absolute paths, ".." and symbolic links all stay inside the directory given. */
const RESOLVE_IN_ROOT = 0x10;

const openat2Syscall = bind(
  "long syscall(long number, int directory, const char *path, const void *how, size_t size)",
);

/**
 * openat2(2) with RESOLVE_IN_ROOT: opens `path` as a process would whose root is the directory `root`.
 *
 * For trees whose symbolic links somebody else made. The caller closes the descriptor.
 *
 * @param flags those of open(2), from `fs.constants`.
 * @param mode permissions of a file that is created; 0 otherwise.
 */
export function openInRoot(root: number, path: string, flags: number, mode: number): number {
  const how = Buffer.alloc(24);
  // A program started later must not find its way out by it (CVE-2024-21626).
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT), 16);
  return check("openat2", openat2Syscall(SYS_openat2, root, path, how, how.length), path);
}

// FS_IOC_SHUTDOWN of ext4, XFS and f2fs, and its argument that drops what is not on disk yet (linux/fs.h, xfs_fs.h).
const FS_IOC_SHUTDOWN = 0x8004587d;
const FS_SHUTDOWN_FLAGS_NOLOGFLUSH = 2;

const ioctl = bind("int ioctl(int fd, unsigned long request, void *argument)");

/**
 * ioctl(2) with FS_IOC_SHUTDOWN: takes the power from the file system that `fd` is on, for tests of what survives that.
 * Nothing more reaches its disk, its journal included; every further call on it fails, until it is mounted anew.
 */
export function shutDownFileSystem(fd: number): void {
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(FS_SHUTDOWN_FLAGS_NOLOGFLUSH);
  check("ioctl", ioctl(fd, FS_IOC_SHUTDOWN, flags));
}
