import { readdir, readFile, writeFile } from "node:fs/promises";

/** Where the kernel keeps a directory for each device that it reads ahead of, named as in /proc/self/mountinfo or otherwise. */
const bdiDirectory = "/sys/class/bdi";

/**
 * Lets the kernel read at least `kibibytes` ahead in files of the file system on `device`, such as "0:53". It is 128 KiB
 * otherwise, whatever a file system says.
 *
 * @throws EACCES in a user namespace.
 */
export async function raiseReadAhead(device: string, kibibytes: number): Promise<void> {
  const path = `${bdiDirectory}/${device}/read_ahead_kb`;
  if (Number(await readFile(path, "utf8")) < kibibytes) {
    await writeFile(path, String(kibibytes));
  }
}

/**
 * The names that {@link raiseReadAhead} takes. That of a file system without a block device cannot be told from its
 * mount, as with EROFS, which numbers its own: it is the one that was not there before.
 */
export async function readAheadDevices(): Promise<ReadonlySet<string>> {
  return new Set(await readdir(bdiDirectory));
}
