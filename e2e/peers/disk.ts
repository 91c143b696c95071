import { execFile } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { shutDownFileSystem } from "@oci-worker/libc/file";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";

const run = promisify(execFile);

const imageBytes = 512 * 1024 * 1024;

/** A disk of its own with an ext4 on it. Disposing unmounts it, and whatever is mounted beneath. */
export interface DiskPeer extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  /** Takes its power: what is not on it by now never will be, and who uses it gets errors. */
  cutPower(): void;
  /** Mounts it anew, once nobody uses it. */
  remount(): Promise<void>;
}

/** Makes a disk in a file of the directory `directory`. */
export async function createDisk(directory: string): Promise<DiskPeer> {
  const image = join(directory, "disk.img");
  const path = join(directory, "disk");
  await mkdir(path);
  {
    await using file = await open(image, "w");
    await file.truncate(imageBytes);
  }
  await run("mkfs.ext4", ["-q", image]);
  const mount = () => run("mount", ["-t", "ext4", "-o", "loop", image, path]);
  await mount();
  return {
    path,
    cutPower: () => {
      const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
      try {
        shutDownFileSystem(fd);
      } finally {
        closeSync(fd);
      }
    },
    remount: async () => {
      // Not MNT_DETACH, which succeeds while the file system goes on beneath: its journal would not be replayed.
      await run("umount", [path]);
      await mount();
    },
    [Symbol.asyncDispose]: async () => void (await unmountBeneath(path)),
  };
}
