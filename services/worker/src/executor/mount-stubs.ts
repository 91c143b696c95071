import { lstatSync, rmdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimes } from "@oci-worker/libc/file";

/** Where runc mounts something in every sandbox. */
const sandboxMountPoints = ["/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts"];

/** Names that were not in the image, one in the other, and the times of the directory that they will appear in. */
interface Stub {
  /** The mount point itself first, the outermost missing directory last. */
  readonly paths: readonly string[];
  readonly parent: string;
  readonly accessedNs: bigint;
  readonly modifiedNs: bigint;
}

/**
 * Remembers which mount points `rootfs` lacks before a step: runc makes an empty file or directory for each, which
 * is none of the step's doing and must not become part of its result.
 *
 * @param mountPoints absolute paths inside the rootfs, those of the step's own mounts.
 */
export function findMountStubs(rootfs: string, mountPoints: readonly string[]): MountStubs {
  const wanted = new Set([...sandboxMountPoints, ...mountPoints]);
  const stubs = [...wanted].map((mountPoint) => missingPart(rootfs, mountPoint.split("/").filter(Boolean)));
  return new MountStubs(
    rootfs,
    stubs.filter((stub) => stub !== undefined),
  );
}

export class MountStubs {
  readonly #rootfs: string;
  readonly #stubs: readonly Stub[];

  constructor(rootfs: string, stubs: readonly Stub[]) {
    this.#rootfs = rootfs;
    this.#stubs = stubs;
  }

  /**
   * Removes the stubs that are still empty and gives the directories that they were in their times back.
   *
   * Call it when every process of the step has ended. No symbolic link is followed: what the step has put in the way
   * of a path stays (CVE-2024-23652).
   */
  remove(): void {
    for (const { paths, parent, accessedNs, modifiedNs } of this.#stubs) {
      const innermost = paths[0];
      if (innermost !== undefined && isRealPath(this.#rootfs, innermost) && paths.every(removeEmpty)) {
        setTimes(parent, accessedNs, modifiedNs);
      }
    }
  }
}

/** The components of a path that are not there; undefined if all of them are, or a link decides where they lead. */
function missingPart(rootfs: string, components: readonly string[]): Stub | undefined {
  let parent = rootfs;
  for (const [depth, component] of components.entries()) {
    const path = join(parent, component);
    const stats = lstatSync(path, { throwIfNoEntry: false });
    if (stats === undefined) {
      const { atimeNs, mtimeNs } = lstatSync(parent, { bigint: true });
      const missing = components.slice(depth);
      const paths = missing.map((_, index) => join(parent, ...missing.slice(0, missing.length - index)));
      return { paths, parent, accessedNs: atimeNs, modifiedNs: mtimeNs };
    }
    if (!stats.isDirectory()) {
      return undefined;
    }
    parent = path;
  }
  return undefined;
}

/** Whether every directory from `rootfs` down to the one that holds `path` is one, and no link. */
function isRealPath(rootfs: string, path: string): boolean {
  let directory = rootfs;
  for (const component of path.slice(rootfs.length).split("/").filter(Boolean).slice(0, -1)) {
    directory = join(directory, component);
    if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
      return false;
    }
  }
  return true;
}

/** Removes an empty file or directory. A path that is gone already is not our stub any more. */
function removeEmpty(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) {
    return false;
  }
  if (stats.isFile() && stats.size === 0) {
    unlinkSync(path);
    return true;
  }
  return stats.isDirectory() && removeDirectory(path);
}

function removeDirectory(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    if (
      error instanceof Error &&
      "code" in error &&
      (error.code === "ENOTEMPTY" || error.code === "EEXIST")
    ) {
      return false;
    }
    throw error;
  }
}
