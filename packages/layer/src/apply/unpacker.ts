import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { InvalidArgumentError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { makeDevice, mknod, S_IFBLK, S_IFCHR, S_IFIFO, setTimes } from "@oci-worker/libc/file";
import { type ByteString, pathOf, quoted } from "../tar/byte-string.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { TarHandler } from "../tar/reader.ts";
import { entryPath, linkTargetPath, parentOf } from "./entry-path.ts";
import { makeDirectory } from "./make-directory.ts";
import { setFileMetadata, setMetadata, timesOf } from "./metadata.ts";
import { removeTree } from "./remove-tree.ts";
import type { Skips } from "./skips.ts";
import { codeOf } from "./system-error.ts";
import { UnpackedPaths } from "./unpacked-paths.ts";
import { whiteoutAt } from "./whiteout.ts";

export interface UnpackOptions {
  /** In one, the kernel lets nobody make devices: they are left out. */
  readonly isUserNamespace: boolean;
  /** The most that all files may come to, holes included. */
  readonly maxBytes: number;
  /** Called often; what it throws ends the unpacking. */
  readonly checkpoint: () => void;
}

/** Never through a link, never into a file that is there: it may be hard-linked to another name. */
const createExclusively = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Unpacks the entries of a layer into the root directory of the calling thread, which has to be confined to it.
 *
 * Paths are the entries' own, made relative and clean, and the kernel resolves them anew in every call. No path that
 * was resolved once is used again: containerd did that, and a layer that swapped a directory for a link in between
 * wrote to the host (CVE-2025-47290). Here even that would end at the root, since the thread has no other.
 */
export class Unpacker implements TarHandler, Disposable {
  readonly #options: UnpackOptions;
  readonly #skips: Skips;
  readonly #unpacked = new UnpackedPaths();
  /** Directories and what their times shall be when nothing in them changes any more. */
  readonly #directories: { path: ByteString; accessedNs: bigint; modifiedNs: bigint }[] = [];
  #file: { entry: TarEntry; fd: number; endBytes: number } | undefined;
  #entries = 0;
  #bytes = 0;
  #current: ByteString | undefined;

  constructor(options: UnpackOptions, skips: Skips) {
    this.#options = options;
    this.#skips = skips;
  }

  /** How many entries there were, whiteouts and what was skipped included. */
  get entries(): number {
    return this.#entries;
  }

  /** The name of the entry that is being unpacked, for errors; undefined before the first and after the last. */
  get current(): ByteString | undefined {
    return this.#current;
  }

  entry(entry: TarEntry): void {
    this.#options.checkpoint();
    this.#current = entry.name;
    this.#entries += 1;
    const path = entryPath(entry.name);
    // The root is the snapshot's, not the layer's: containerd and Docker ignore it too (moby issue 41261).
    if (path === "") {
      return;
    }
    const whiteout = whiteoutAt(path);
    switch (whiteout?.kind) {
      case "removal":
        removeTree(whiteout.path, this.#options.checkpoint);
        return;
      case "opaque":
        makeDirectory(whiteout.directory);
        this.#unpacked.removeOthers(whiteout.directory, this.#options.checkpoint);
        return;
      case undefined:
        this.#create(path, entry);
        this.#unpacked.add(path);
    }
  }

  content(bytes: Buffer, position: number): void {
    const file = this.#file;
    // An entry that is ignored, such as a whiteout, may have content.
    if (file === undefined) {
      return;
    }
    for (let written = 0; written < bytes.length; ) {
      written += writeSync(file.fd, bytes, written, bytes.length - written, position + written);
    }
    file.endBytes = position + bytes.length;
  }

  entryEnd(): void {
    const file = this.#file;
    if (file === undefined) {
      return;
    }
    if (file.endBytes < file.entry.sizeBytes) {
      ftruncateSync(file.fd, file.entry.sizeBytes);
    }
    setFileMetadata(file.fd, file.entry, this.#onSkippedXattr);
    this.#file = undefined;
    closeSync(file.fd);
  }

  /** To be called after the last entry: gives directories their times. Of two entries for one the last wins. */
  finish(): void {
    this.#current = undefined;
    for (const { path, accessedNs, modifiedNs } of this.#directories) {
      if (isDirectory(path)) {
        setTimes(pathOf(path), accessedNs, modifiedNs);
      }
    }
  }

  /** Closes the file that an error has left half written. */
  [Symbol.dispose](): void {
    if (this.#file !== undefined) {
      closeSync(this.#file.fd);
      this.#file = undefined;
    }
  }

  #create(path: ByteString, entry: TarEntry): void {
    switch (entry.type) {
      case "file":
        this.#createFile(path, entry);
        return;
      case "directory":
        this.#createDirectory(path);
        this.#directories.push({ path, ...timesOf(entry) });
        setMetadata(path, entry, this.#onSkippedXattr);
        return;
      case "symlink":
        this.#replacing(path, () => symlinkSync(pathOf(entry.linkName), pathOf(path)));
        setMetadata(path, entry, this.#onSkippedXattr);
        return;
      case "hard link":
        this.#createHardLink(path, entry);
        return;
      case "character device":
        this.#createDevice(path, entry, S_IFCHR);
        return;
      case "block device":
        this.#createDevice(path, entry, S_IFBLK);
        return;
      case "fifo":
        this.#createNode(path, entry, S_IFIFO);
        return;
    }
  }

  #createFile(path: ByteString, entry: TarEntry): void {
    this.#bytes += entry.sizeBytes;
    if (this.#bytes > this.#options.maxBytes) {
      throw new ResourceExhaustedError(
        `Cannot unpack ${quoted(entry.name)}: with it the layer's files have more than ${this.#options.maxBytes} bytes`,
      );
    }
    const fd = this.#replacing(path, () => openSync(pathOf(path), createExclusively, 0o600));
    this.#file = { entry, fd, endBytes: 0 };
  }

  /** A directory that is there stays: only its metadata changes. */
  #createDirectory(path: ByteString): void {
    this.#replacing(path, () => {
      try {
        mkdirSync(pathOf(path), 0o700);
      } catch (error) {
        if (codeOf(error) !== "EEXIST" || !isDirectory(path)) {
          throw error;
        }
      }
    });
  }

  #createHardLink(path: ByteString, entry: TarEntry): void {
    const target = linkTargetPath(entry.linkName);
    try {
      // link(2) follows links on the way to the target, within the root, but not the target itself.
      this.#replacing(path, () => linkSync(pathOf(target), pathOf(path)));
    } catch (error) {
      const why = { ENOENT: "does not exist in the root", EPERM: "cannot be linked to" }[codeOf(error) ?? ""];
      if (why === undefined) {
        throw error;
      }
      throw new InvalidArgumentError(
        `Cannot unpack ${quoted(entry.name)}: it is a hard link to ${quoted(entry.linkName)}, which ${why}, want a file in the root`,
        { cause: error },
      );
    }
    setMetadata(path, entry, this.#onSkippedXattr, lstatSync(pathOf(path)));
  }

  #createDevice(path: ByteString, entry: TarEntry, fileType: number): void {
    if (this.#options.isUserNamespace) {
      this.#skips.add(entry.name, `a ${entry.type} cannot be made in a user namespace`);
      return;
    }
    this.#createNode(path, entry, fileType);
  }

  #createNode(path: ByteString, entry: TarEntry, fileType: number): void {
    const device = makeDevice(entry.deviceMajor, entry.deviceMinor);
    this.#replacing(path, () => mknod(pathOf(path), fileType | 0o600, device));
    setMetadata(path, entry, this.#onSkippedXattr);
  }

  /**
   * Creates something at `path` with `create`, whose system call must fail if something is there. That is then removed,
   * and missing directories above are made. Looking first would cost a call an entry, for what is rarely so.
   */
  #replacing<T>(path: ByteString, create: () => T): T {
    try {
      return create();
    } catch (error) {
      switch (codeOf(error)) {
        case "ENOENT":
          makeDirectory(parentOf(path));
          break;
        case "EEXIST":
          removeTree(path, this.#options.checkpoint);
          break;
        default:
          throw error;
      }
    }
    return create();
  }

  readonly #onSkippedXattr = (name: ByteString, why: string): void => {
    this.#skips.add(this.#current ?? name, `extended attribute ${quoted(name)}: ${why}`);
  };
}

/** False also where a later entry has put something else in the place of the directory, or of one above it. */
function isDirectory(path: ByteString): boolean {
  try {
    return lstatSync(pathOf(path)).isDirectory();
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") {
      return false;
    }
    throw error;
  }
}
