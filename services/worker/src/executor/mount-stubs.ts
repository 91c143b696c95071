import { lstatSync, rmdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimes } from "@oci-worker/libc/file";
import { lookUp } from "./lookup.ts";

/** Where runc mounts something in every sandbox. */
const sandboxMountPoints = ["/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts"];

/** Names that were not in the image, one in the other, and the times of the directory that they will appear in. */
interface Stub {
  /** The mount point itself first, the outermost missing directory last. */
  readonly paths: readonly string[];
  readonly parent: string;
  /** Undefined if the directory is not there yet either. */
  readonly times: { readonly accessedNs: bigint; readonly modifiedNs: bigint } | undefined;
}

/**
 * Remembers which mount points `rootfs` lacks before a step: runc makes an empty file or directory for each, which
 * is none of the step's doing and must not become part of its result.
 *
 * @param mountPoints absolute paths inside the rootfs, those of the step's own mounts and devices.
 * @param withParents also the directories above that are missing; a client of an older kind expects them to stay.
 */
export function findMountStubs(
  rootfs: string,
  mountPoints: readonly string[],
  withParents: boolean,
): MountStubs {
  const wanted = new Set([...sandboxMountPoints, ...mountPoints]);
  const stubs = [...wanted].map((mountPoint) => missingPart(rootfs, mountPoint, withParents));
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
    for (const { paths, parent, times } of this.#stubs) {
      const innermost = paths[0];
      const isGone =
        innermost !== undefined && isRealPath(this.#rootfs, innermost) && paths.every(removeEmpty);
      if (isGone && times !== undefined) {
        setTimes(parent, times.accessedNs, times.modifiedNs);
      }
    }
  }
}

/** What of the way to a mount point is not there; undefined if all of it is. */
function missingPart(rootfs: string, mountPoint: string, withParents: boolean): Stub | undefined {
  const { components, existing } = lookUp(rootfs, mountPoint);
  const first = withParents ? existing : Math.max(existing, components.length - 1);
  if (first === components.length) {
    return undefined;
  }
  const missing = components.slice(first);
  const parent = join(rootfs, ...components.slice(0, first));
  const stats = lstatSync(parent, { bigint: true, throwIfNoEntry: false });
  if (stats?.isDirectory() === false) {
    return undefined;
  }
  const paths = missing.map((_, index) => join(parent, ...missing.slice(0, missing.length - index)));
  return { paths, parent, times: stats && { accessedNs: stats.atimeNs, modifiedNs: stats.mtimeNs } };
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

/**
 * Removes an empty file or directory, or the node that the runtime has made of a device. A path that is gone already is not
 * our stub any more.
 */
function removeEmpty(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) {
    return false;
  }
  const isNode = stats.isCharacterDevice() || stats.isBlockDevice() || stats.isFIFO();
  if (isNode || (stats.isFile() && stats.size === 0)) {
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
