import { bind, check, errnoOf } from "./libc.ts";

const libc = {
  ioctl: bind("int ioctl(int fd, unsigned long request, void *argument)"),
  poll: bind("int poll(void *fds, unsigned long count, int timeoutMs)"),
  pidfdGetfd: bind("long syscall(long number, int pidfd, int targetFd, unsigned int flags)"),
  pidfdOpen: bind("long syscall(long number, int pid, unsigned int flags)"),
  pidfdSendSignal: bind(
    "long syscall(long number, int pidfd, int signal, void *information, unsigned int flags)",
  ),
  pread: bind("ssize_t pread64(int fd, void *buffer, size_t size, int64_t offset)"),
  preadv2: bind("ssize_t preadv64v2(int fd, const iovec *vectors, int count, int64_t offset, int flags)"),
  read: bind("ssize_t read(int fd, void *buffer, size_t size)"),
  write: bind("ssize_t write(int fd, const void *buffer, size_t size)"),
};

// The same on every architecture (asm-generic/unistd.h); Debian 12's C library has no functions for them.
const SYS_pidfd_send_signal = 424;
const SYS_pidfd_open = 434;
const SYS_pidfd_getfd = 438;

/**
 * read(2) into `buffer`, waiting as long as it takes: for threads that do nothing else. Several times cheaper than Node's
 * own, and a failure costs no error object.
 *
 * @returns the number of bytes, or the negated errno.
 */
export function readInto(fd: number, buffer: Uint8Array): number {
  const result = Number(libc.read(fd, buffer, buffer.length));
  return result < 0 ? -errnoOf() : result;
}

/**
 * pread(2) of up to `length` bytes at `offset` of a file into the beginning of `buffer`.
 *
 * @returns the number of bytes, or the negated errno.
 */
export function readAt(fd: number, buffer: Uint8Array, length: number, offset: number): number {
  const result = Number(libc.pread(fd, buffer, length, offset));
  return result < 0 ? -errnoOf() : result;
}

/** RWF_DONTCACHE of preadv2(2). */
const RWF_DONTCACHE = 0x80;

/**
 * As {@link readAt}, save that what the kernel has to get from the disk for it does not stay in its memory; what is there
 * already does. Linux 6.14, and not on every file system.
 *
 * @returns the number of bytes, or the negated errno: EOPNOTSUPP where that cannot be had.
 */
export function readPassing(fd: number, buffer: Uint8Array, length: number, offset: number): number {
  const result = Number(libc.preadv2(fd, { base: buffer, length }, 1, offset, RWF_DONTCACHE));
  return result < 0 ? -errnoOf() : result;
}

/**
 * write(2) of the first `length` bytes of `buffer`.
 *
 * @returns the number of bytes, or the negated errno.
 */
export function writeFrom(fd: number, buffer: Uint8Array, length: number): number {
  const result = Number(libc.write(fd, buffer, length));
  return result < 0 ? -errnoOf() : result;
}

/** ioctl(2) with a structure as its argument, which the kernel may change. @returns what the call returns. */
export function ioctl(fd: number, request: number, argument: Uint8Array): number {
  return check("ioctl", libc.ioctl(fd, request, argument));
}

/** pidfd_open(2): a descriptor of the process `pid`. The caller closes it. */
export function pidfdOpen(pid: number): number {
  return check("pidfd_open", libc.pidfdOpen(SYS_pidfd_open, pid, 0));
}

/** pidfd_send_signal(2): kill(2) that cannot reach another process which has got the number since. */
export function pidfdSendSignal(pidfd: number, signal: number): void {
  check("pidfd_send_signal", libc.pidfdSendSignal(SYS_pidfd_send_signal, pidfd, signal, null, 0));
}

/** pidfd_getfd(2): a copy of the descriptor `targetFd` of another process, close-on-exec. The caller closes it. */
export function pidfdGetfd(pidfd: number, targetFd: number): number {
  return check("pidfd_getfd", libc.pidfdGetfd(SYS_pidfd_getfd, pidfd, targetFd, 0));
}

/** POLLERR of poll(2). */
const POLLERR = 0x8;

/** poll(2) without waiting: whether `fd` is in a state of error, as a FUSE device is whose file system has ended. */
export function isInError(fd: number): boolean {
  // struct pollfd: descriptor, what is asked for, what there is.
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  check("poll", libc.poll(entry, 1, 0));
  return (entry.readInt16LE(6) & POLLERR) !== 0;
}
