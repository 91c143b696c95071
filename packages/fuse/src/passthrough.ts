import { ioctl } from "@oci-worker/libc/descriptor";

// _IOW(229, 1, struct fuse_backing_map) and _IOW(229, 2, uint32_t) of linux/fuse.h.
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010_e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004_e502;

/**
 * Tells the kernel of the open file `fileFd`, which it may then read in the place of a file that is served on the FUSE device
 * `fd`. Linux 6.9, with the right to administrate the system.
 *
 * @returns the id to answer an open with, until {@link closeBacking}.
 * @throws {SystemError} if the kernel cannot, or the file is on a file system that is itself stacked.
 */
export function openBacking(fd: number, fileFd: number): number {
  const map = Buffer.alloc(16);
  map.writeInt32LE(fileFd, 0);
  return ioctl(fd, FUSE_DEV_IOC_BACKING_OPEN, map);
}

/** Takes back what {@link openBacking} has told; files that are open with it stay so. */
export function closeBacking(fd: number, id: number): void {
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(id, 0);
  ioctl(fd, FUSE_DEV_IOC_BACKING_CLOSE, argument);
}
