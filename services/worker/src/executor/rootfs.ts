import { closeSync, constants, fchownSync, fstatSync, mkdirSync, openSync, readSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { posix } from "node:path";
import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { openInRoot } from "@oci-worker/libc/file";
import { asFileOwner } from "@oci-worker/libc/file-owner";
import { mountAll } from "@oci-worker/mounts/mount";
import type { Owner } from "@oci-worker/mounts/owner-map";
import { codeOf } from "./error-code.ts";

/** O_PATH of open(2): a descriptor that names a place and gives no access to what is there. */
const O_PATH = 0o10000000;

/**
 * The root file system of a step, read and changed as the step would see it: whatever its image's symbolic links
 * say, nothing outside of it is touched (openat2, RESOLVE_IN_ROOT).
 */
export class Rootfs implements Disposable {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, O_PATH | constants.O_DIRECTORY);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /**
   * The content of the regular file `path`, or undefined if there is none.
   *
   * @throws {InvalidArgumentError} if it is something else, such as a device or a fifo that an image brings.
   * @throws {ResourceExhaustedError} if it is larger than `maxBytes`.
   */
  readFile(path: string, maxBytes: number): Buffer | undefined {
    // O_NONBLOCK: opening a fifo must not wait for its writer.
    const fd = this.#find(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (fd === undefined) {
      return undefined;
    }
    try {
      const { size } = requireFile(fd, path);
      if (size > maxBytes) {
        throw new ResourceExhaustedError(
          `Cannot read ${path} of the image: it has ${size} bytes, want at most ${maxBytes}`,
        );
      }
      const content = Buffer.alloc(size);
      return content.subarray(0, readSync(fd, content, 0, size, 0));
    } finally {
      closeSync(fd);
    }
  }

  /**
   * A descriptor of the regular file `path`, which the caller closes; undefined if there is none, whatever else is there.
   * Nothing but a regular file is ever opened: of a device or a fifo that alone may have effects.
   *
   * @param flags of open(2).
   */
  openFile(path: string, flags: number): number | undefined {
    let place: number | undefined;
    try {
      place = this.#open(path, O_PATH);
    } catch (error) {
      if (!/^(ELOOP|ENAMETOOLONG|ENOTDIR)$/.test(codeOf(error) ?? "")) {
        throw error;
      }
    }
    if (place === undefined) {
      return undefined;
    }
    try {
      return fstatSync(place).isFile() ? openSync(`/proc/self/fd/${place}`, flags) : undefined;
    } finally {
      closeSync(place);
    }
  }

  /**
   * Makes the directory `path` and those above it that are missing, 0755 and owned by `owner`.
   *
   * @param maker who makes it: somebody whose files the file system has ids for.
   * @throws {InvalidArgumentError} if something on the way is no directory.
   */
  makeDirectory(path: string, owner: Owner, maker: Owner): void {
    try {
      closeSync(this.#openDirectory(path, owner, maker));
    } catch (cause) {
      const code = codeOf(cause);
      // Root is denied nothing else (CAP_DAC_OVERRIDE).
      if (code === "EACCES" || code === "EOVERFLOW") {
        throw new InvalidArgumentError(
          `Cannot make working dir ${path}: a directory above it belongs to a user or a group whose id steps do not have, want another`,
          { cause },
        );
      }
      if (/^(EEXIST|ELOOP|ENAMETOOLONG|ENOENT|ENOTDIR)$/.test(code ?? "")) {
        throw new InvalidArgumentError(`working dir ${path} points to invalid target: ${code}`, { cause });
      }
      throw cause;
    }
  }

  /**
   * Shows what is at `path` at `target` on the host, too, which is made for it; the caller unmounts it.
   *
   * The mount is of what was found: whoever puts a link in its way afterwards changes nothing (CVE-2024-23651).
   *
   * @returns false if there is no such path.
   */
  async showAt(path: string, target: string): Promise<boolean> {
    const fd = this.#find(path, O_PATH);
    if (fd === undefined) {
      return false;
    }
    try {
      await (fstatSync(fd).isDirectory() ? mkdir(target) : writeFile(target, ""));
      await mountAll([{ type: "bind", source: `/proc/self/fd/${fd}`, options: ["rbind"] }], target);
      return true;
    } finally {
      closeSync(fd);
    }
  }

  /** A descriptor of the directory `path`, which the caller closes; made with its parents if it is missing. */
  #openDirectory(path: string, owner: Owner, maker: Owner): number {
    const existing = this.#open(path, O_PATH | constants.O_DIRECTORY);
    if (existing !== undefined) {
      return existing;
    }
    if (path === "/") {
      throw new InvalidArgumentError("Cannot make a directory: the root file system is gone");
    }
    const parent = this.#openDirectory(posix.dirname(path), owner, maker);
    try {
      // The last component is not followed, so the directory is made in exactly this parent.
      const made = `/proc/self/fd/${parent}/${posix.basename(path)}`;
      asFileOwner(maker.uid, maker.gid, () => mkdirSync(made, 0o755));
    } finally {
      closeSync(parent);
    }
    const made = openInRoot(this.#fd, path, constants.O_RDONLY | constants.O_DIRECTORY, 0);
    fchownSync(made, owner.uid, owner.gid);
    return made;
  }

  /**
   * As {@link #open}, also for a path that leads through something else than directories.
   *
   * @throws {InvalidArgumentError} if links lead in a circle, or to a socket that was to be read.
   */
  #find(path: string, flags: number): number | undefined {
    try {
      return this.#open(path, flags);
    } catch (cause) {
      switch (codeOf(cause)) {
        case "ENOTDIR":
        case "ENAMETOOLONG":
          return undefined;
        case "ELOOP":
          throw new InvalidArgumentError(`Cannot follow ${path} in the image: too many links lead on`, {
            cause,
          });
        case "ENXIO":
          throw notRegular(path, cause);
        default:
          throw cause;
      }
    }
  }

  #open(path: string, flags: number): number | undefined {
    try {
      return openInRoot(this.#fd, path, flags, 0);
    } catch (error) {
      if (codeOf(error) === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  }
}

function requireFile(fd: number, path: string): { readonly size: number } {
  const stats = fstatSync(fd);
  if (!stats.isFile()) {
    throw notRegular(path);
  }
  return stats;
}

function notRegular(path: string, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`Cannot read ${path} of the image: it is no regular file`, { cause });
}
