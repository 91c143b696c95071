import { constants } from "node:fs";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { S_IFBLK, S_IFCHR, S_IFIFO } from "@oci-worker/libc/file";

/**
 * The mode of an entry is Go's `os.FileMode`, not st_mode of stat(2): permission bits are where Unix has them, all else
 * is elsewhere (go.dev/src/io/fs/fs.go).
 */
const goDir = 0x8000_0000;
const goSymlink = 0x0800_0000;
const goDevice = 0x0400_0000;
const goNamedPipe = 0x0200_0000;
const goSocket = 0x0100_0000;
const goSetuid = 0x0080_0000;
const goSetgid = 0x0040_0000;
const goCharDevice = 0x0020_0000;
const goSticky = 0x0010_0000;
const goIrregular = 0x0008_0000;

const goType = goDir | goSymlink | goDevice | goNamedPipe | goSocket | goCharDevice | goIrregular;

// Bits of st_mode (inode(7)).
const setuid = 0o4000;
const setgid = 0o2000;
const sticky = 0o1000;
const permissions = 0o777;

export type FileType = "file" | "directory" | "symlink" | "fifo" | "character-device" | "block-device";

/** The mode of the protocol for a type and the 12 low bits of st_mode. */
export function goMode(type: FileType, mode: number): number {
  const special =
    (mode & setuid ? goSetuid : 0) | (mode & setgid ? goSetgid : 0) | (mode & sticky ? goSticky : 0);
  return (typeBits[type] | special | (mode & permissions)) >>> 0;
}

const typeBits: Readonly<Record<FileType, number>> = {
  file: 0,
  directory: goDir,
  symlink: goSymlink,
  fifo: goNamedPipe,
  "character-device": goDevice | goCharDevice,
  "block-device": goDevice,
};

/**
 * The type of an entry with this mode.
 *
 * @throws {InvalidArgumentError} if it is a socket, or several things at once.
 */
export function fileTypeOf(mode: number): FileType {
  const bits = (mode & goType) >>> 0;
  for (const [type, wanted] of Object.entries(typeBits)) {
    if (bits === wanted >>> 0) {
      return type as FileType;
    }
  }
  throw new InvalidArgumentError(
    `its mode 0x${mode.toString(16)} is no type that can be transferred, want a file, directory, link, pipe or device`,
  );
}

/** Whether an entry with this mode has content that a receiver may ask for. Both sides must agree on it. */
export function hasContent(mode: number): boolean {
  return (mode & goType) === 0;
}

/** The 12 low bits of st_mode in a mode of the protocol: for chmod(2). */
export function permissionBits(mode: number): number {
  return (
    (mode & permissions) |
    (mode & goSetuid ? setuid : 0) |
    (mode & goSetgid ? setgid : 0) |
    (mode & goSticky ? sticky : 0)
  );
}

/** The file type of st_mode, or undefined for a socket: it is nothing without its process. */
export function typeOfStatMode(mode: number): FileType | undefined {
  switch (mode & constants.S_IFMT) {
    case constants.S_IFREG:
      return "file";
    case constants.S_IFDIR:
      return "directory";
    case constants.S_IFLNK:
      return "symlink";
    case S_IFIFO:
      return "fifo";
    case S_IFCHR:
      return "character-device";
    case S_IFBLK:
      return "block-device";
    default:
      return undefined;
  }
}
