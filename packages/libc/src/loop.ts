import { bind, check } from "./libc.ts";

// Requests and flags of loop devices (linux/loop.h).
const LOOP_CHANGE_FD = 0x4c06;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_GET_FREE = 0x4c82;

/** The device writes nothing to its file. */
export const LO_FLAGS_READ_ONLY = 1;
/** The device lets go of its file when nobody has it open or mounted any more. */
export const LO_FLAGS_AUTOCLEAR = 4;
/** The file is read past the page cache, where its file system can: the device has one itself. */
export const LO_FLAGS_DIRECT_IO = 16;

// struct loop_config: descriptor, block size, then struct loop_info64, of which these are the flags and the name shown.
const [configBytes, flagsAt, nameAt, nameBytes] = [304, 8 + 52, 8 + 56, 64];

const libc = {
  ioctlNumber: bind("int ioctl(int fd, unsigned long request, unsigned long argument)"),
  ioctlBuffer: bind("int ioctl(int fd, unsigned long request, void *argument)"),
};

/** ioctl(2) with LOOP_CTL_GET_FREE on /dev/loop-control: the number of a device that nobody uses yet, made if need be. */
export function getFreeLoop(controlFd: number): number {
  return check("ioctl", libc.ioctlNumber(controlFd, LOOP_CTL_GET_FREE, 0));
}

/**
 * ioctl(2) with LOOP_CONFIGURE: the device `fd` shows the file `fileFd` from now on. Linux 5.8. EBUSY: it shows one already.
 *
 * @param name what `losetup` shows; cut to 63 bytes.
 */
export function configureLoop(fd: number, fileFd: number, flags: number, name: string): void {
  const config = Buffer.alloc(configBytes);
  config.writeUInt32LE(fileFd, 0);
  config.writeUInt32LE(flags, flagsAt);
  config.write(name, nameAt, nameBytes - 1);
  check("ioctl", libc.ioctlBuffer(fd, LOOP_CONFIGURE, config), name);
}

/**
 * ioctl(2) with LOOP_CHANGE_FD: the device `fd`, which is read-only, shows the file `fileFd` of the same size from now on, to
 * those as well who have it mounted. It waits for the reads of the old file that are on their way.
 */
export function changeLoopFile(fd: number, fileFd: number): void {
  check("ioctl", libc.ioctlNumber(fd, LOOP_CHANGE_FD, fileFd));
}
