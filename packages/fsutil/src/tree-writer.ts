import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { Stat } from "@oci-worker/api/session/fsutil";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { makeDevice, mknod, S_IFBLK, S_IFCHR, S_IFIFO, setTimes } from "@oci-worker/libc/file";
import { type FileType, fileTypeOf, permissionBits } from "./mode.ts";
import { parentOf } from "./path.ts";
import { writing } from "./write-failure.ts";
import { type SkippedXattr, writeXattrs } from "./xattrs.ts";

/** A file whose content is on its way, under a name of its own until it is complete. */
interface OpenFile {
  readonly stat: Stat;
  readonly temporaryPath: string;
  readonly fd: number;
}

/** No more attributes than this are listed as left out; the rest would be more of the same. */
const maxSkippedListed = 100;

/**
 * Writes entries into a directory, one after the other. What is there and does not come again stays.
 *
 * Nothing appears under its name before it is complete. Disposed of before {@link finish}, it removes what it made;
 * what it replaced before that is replaced.
 *
 * Its calls never follow a symbolic link inside the directory: whoever calls them makes sure that each entry's parent
 * was added as a directory before, and adding one makes sure that it is a real directory.
 */
export class TreeWriter implements Disposable {
  readonly #root: string;
  readonly #keepOwner: boolean;
  readonly #files = new Map<number, OpenFile>();
  readonly #directories: Stat[] = [];
  readonly #links: Stat[] = [];
  /** Paths that were not there before, in the order they were made. */
  readonly #created: string[] = [];
  readonly skippedXattrs: SkippedXattr[] = [];
  #temporaryNames = 0;
  #finished = false;

  /**
   * @param root an existing directory.
   * @param keepOwner whether entries get the owner that the sender says; else they are our own.
   */
  constructor(root: string, keepOwner: boolean) {
    this.#root = root;
    this.#keepOwner = keepOwner;
  }

  /** Adds an entry that has no content to wait for. A link to a file is made at the end, when the file is complete. */
  add(type: Exclude<FileType, "file"> | "link", stat: Stat): void {
    writing(stat.path, () => this.#add(type, stat));
  }

  #add(type: Exclude<FileType, "file"> | "link", stat: Stat): void {
    switch (type) {
      case "directory":
        this.#addDirectory(stat);
        break;
      case "link":
        this.#links.push(stat);
        break;
      case "symlink":
        this.#replace(stat, (path) => symlinkSync(stat.linkname, path));
        break;
      case "fifo":
        this.#replace(stat, (path) => mknod(path, S_IFIFO | 0o600, 0n));
        break;
      case "character-device":
        this.#replace(stat, (path) => mknod(path, S_IFCHR | 0o600, deviceOf(stat)));
        break;
      case "block-device":
        this.#replace(stat, (path) => mknod(path, S_IFBLK | 0o600, deviceOf(stat)));
        break;
    }
  }

  /** Makes room for the content of entry `id`. */
  openFile(id: number, stat: Stat): void {
    const temporaryPath = this.#temporaryPath(stat.path);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const fd = writing(stat.path, () => openSync(temporaryPath, flags, 0o600));
    this.#files.set(id, { stat, temporaryPath, fd });
  }

  /** @returns false if no file `id` is open. */
  write(id: number, data: Uint8Array): boolean {
    const file = this.#files.get(id);
    if (file === undefined) {
      return false;
    }
    writing(file.stat.path, () => {
      for (let written = 0; written < data.length; ) {
        written += writeSync(file.fd, data, written);
      }
    });
    return true;
  }

  /** @returns false if no file `id` is open. */
  closeFile(id: number): boolean {
    const file = this.#files.get(id);
    if (file === undefined) {
      return false;
    }
    writing(file.stat.path, () => this.#complete(id, file));
    return true;
  }

  #complete(id: number, { stat, temporaryPath, fd }: OpenFile): void {
    this.#setOwner(temporaryPath, stat);
    fchmodSync(fd, permissionBits(stat.mode));
    this.#setXattrs(temporaryPath, stat);
    setTimes(temporaryPath, stat.modTime, stat.modTime);
    this.#files.delete(id);
    try {
      closeSync(fd);
      this.#moveIntoPlace(temporaryPath, stat.path);
    } catch (error) {
      unlinkSync(temporaryPath);
      throw error;
    }
  }

  /** Makes what had to wait for the rest: links, then modes and times of directories, the innermost first. */
  finish(): void {
    for (const { path, linkname } of this.#links) {
      writing(path, () => {
        this.#makeRoom(path);
        linkSync(this.#pathOf(linkname), this.#pathOf(path));
      });
    }
    for (const stat of this.#directories.toReversed()) {
      writing(stat.path, () => this.#setMetadata(this.#pathOf(stat.path), stat));
    }
    this.#finished = true;
  }

  [Symbol.dispose](): void {
    for (const { fd, temporaryPath } of this.#files.values()) {
      closeSync(fd);
      unlinkSync(temporaryPath);
    }
    this.#files.clear();
    if (!this.#finished) {
      this.#created.toReversed().forEach(removeIfOurs);
    }
  }

  #pathOf(path: string): string {
    return join(this.#root, path);
  }

  /** A free name in the directory of `path`: the file is renamed from it, which works inside one directory only. */
  #temporaryPath(path: string): string {
    this.#temporaryNames += 1;
    const name = `.receiving-${process.pid}-${this.#temporaryNames}-${Math.random().toString(36).slice(2)}`;
    return this.#pathOf(join(parentOf(path), name));
  }

  #addDirectory(stat: Stat): void {
    const path = this.#pathOf(stat.path);
    const existing = lstatSync(path, { throwIfNoEntry: false });
    if (existing !== undefined && !existing.isDirectory()) {
      unlinkSync(path);
    }
    if (existing?.isDirectory() !== true) {
      // Ours alone until it is complete; its real mode may forbid us to write into it.
      mkdirSync(path, 0o700);
      if (existing === undefined) {
        this.#created.push(path);
      }
    }
    this.#directories.push(stat);
  }

  /** Makes an entry under a temporary name and moves it into its place. */
  #replace(stat: Stat, make: (path: string) => void): void {
    const temporaryPath = this.#temporaryPath(stat.path);
    make(temporaryPath);
    try {
      this.#setMetadata(temporaryPath, stat);
      this.#moveIntoPlace(temporaryPath, stat.path);
    } catch (error) {
      unlinkSync(temporaryPath);
      throw error;
    }
  }

  #moveIntoPlace(temporaryPath: string, path: string): void {
    const target = this.#pathOf(path);
    const existing = lstatSync(target, { throwIfNoEntry: false });
    if (existing?.isDirectory() === true) {
      removeEmpty(target, path);
    }
    renameSync(temporaryPath, target);
    if (existing === undefined) {
      this.#created.push(target);
    }
  }

  #makeRoom(path: string): void {
    const target = this.#pathOf(path);
    const existing = lstatSync(target, { throwIfNoEntry: false });
    if (existing === undefined) {
      this.#created.push(target);
    } else if (existing.isDirectory()) {
      removeEmpty(target, path);
    } else {
      unlinkSync(target);
    }
  }

  /** Owner before mode, because a change of owner drops setuid; both before attributes, because it drops capabilities. */
  #setMetadata(path: string, stat: Stat): void {
    this.#setOwner(path, stat);
    if (fileTypeOf(stat.mode) !== "symlink") {
      chmodSync(path, permissionBits(stat.mode));
    }
    this.#setXattrs(path, stat);
    setTimes(path, stat.modTime, stat.modTime);
  }

  #setOwner(path: string, { uid, gid }: Stat): void {
    if (this.#keepOwner) {
      lchownSync(path, uid, gid);
    }
  }

  #setXattrs(path: string, { path: name, xattrs }: Stat): void {
    for (const [xattr, reason] of writeXattrs(path, xattrs)) {
      if (this.skippedXattrs.length < maxSkippedListed) {
        this.skippedXattrs.push({ path: name, name: xattr, reason });
      }
    }
  }
}

function deviceOf({ devmajor, devminor }: Stat): bigint {
  return makeDevice(Number(devmajor), Number(devminor));
}

/** A file may take the place of an empty directory, but never of what somebody keeps in one. */
function removeEmpty(target: string, path: string): void {
  try {
    rmdirSync(target);
  } catch (cause) {
    throw new FailedPreconditionError(
      `Cannot write ${JSON.stringify(path)}: a directory is in its place, want it empty or gone`,
      { cause },
    );
  }
}

/** Removes what a failed transfer has made. A directory that somebody else has put something into stays. */
function removeIfOurs(path: string): void {
  const existing = lstatSync(path, { throwIfNoEntry: false });
  if (existing === undefined) {
    return;
  }
  if (!existing.isDirectory()) {
    unlinkSync(path);
    return;
  }
  try {
    rmdirSync(path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOTEMPTY")) {
      throw error;
    }
  }
}
