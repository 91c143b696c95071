import { closeSync, constants, fstatSync, openSync, readlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { posix } from "node:path";
import type { Stat } from "@oci-worker/api/session/fsutil";
import { InvalidArgumentError, NotFoundError, ResourceExhaustedError } from "@oci-worker/errdefs";
import { directoryTree, entryOf } from "@oci-worker/fsutil/directory-tree";
import { openInRoot } from "@oci-worker/libc/file";

/** O_PATH of open(2): a descriptor that names a place and gives no access to what is there. */
const O_PATH = 0o10000000;

/** What clients take in one message is 16 MiB, with what is around the content. */
const maxReadBytes = 16 * 1024 * 1024 - 4096;

/** Entries of a directory come in one message as well. */
const maxEntries = 50_000;

/** Which part of a file. */
export interface FileRange {
  readonly offset: number;
  readonly length: number;
}

/**
 * A tree as clients look into it: links are followed as a process would whose root it is, so that none leads out (openat2,
 * RESOLVE_IN_ROOT). Nothing but a regular file is ever opened.
 */
export class TreeView implements Disposable {
  readonly #root: number;

  /** @param path of a directory that nobody changes. */
  constructor(path: string) {
    this.#root = openSync(path, O_PATH | constants.O_DIRECTORY);
  }

  [Symbol.dispose](): void {
    closeSync(this.#root);
  }

  /**
   * The content of a file, or a part of it: less than was asked for at the end of the file.
   *
   * @throws {NotFoundError} if there is nothing at `path`.
   * @throws {InvalidArgumentError} if that is no file, or the range is none.
   * @throws {ResourceExhaustedError} if it does not fit into a message.
   */
  async readFile(path: string, range: FileRange | undefined): Promise<Buffer> {
    using place = this.#find(path);
    const stats = fstatSync(place.fd);
    if (!stats.isFile()) {
      throw new InvalidArgumentError(`Cannot read ${quoted(path)}: it is no file`);
    }
    const { offset = 0, length = stats.size } = range ?? {};
    if (offset < 0 || length < 0) {
      throw new InvalidArgumentError(
        `Cannot read ${length} bytes at ${offset} of ${quoted(path)}: want no negative numbers`,
      );
    }
    const bytes = Math.max(0, Math.min(length, stats.size - offset));
    if (bytes > maxReadBytes) {
      throw new ResourceExhaustedError(
        `Cannot read ${bytes} bytes of ${quoted(path)}: want at most ${maxReadBytes} at once, by ranges`,
      );
    }
    // In the background: of a lazy layer the content may have to be fetched first.
    await using file = await open(place.path, constants.O_RDONLY);
    const content = Buffer.alloc(bytes);
    let filled = 0;
    while (filled < bytes) {
      const { bytesRead } = await file.read(content, filled, bytes - filled, offset + filled);
      if (bytesRead === 0) {
        break;
      }
      filled += bytesRead;
    }
    return content.subarray(0, filled);
  }

  /** What is at `path`, by its last name. @throws {NotFoundError} if there is nothing. */
  stat(path: string): Stat {
    using place = this.#find(path);
    return entryOf(readlinkSync(place.path), posix.basename(posix.resolve("/", path)));
  }

  /**
   * What is in the directory `path`, and nothing deeper; sockets left out.
   *
   * @param pattern of names (glob(7)); empty for all.
   * @throws {NotFoundError} if there is nothing at `path`.
   * @throws {InvalidArgumentError} if that is no directory.
   * @throws {ResourceExhaustedError} if that is more than fits into a message.
   */
  readDirectory(path: string, pattern: string): Stat[] {
    using place = this.#find(path);
    if (!fstatSync(place.fd).isDirectory()) {
      throw new InvalidArgumentError(`Cannot list ${quoted(path)}: it is no directory`);
    }
    const wanted = posix.relative("/", posix.resolve("/", pattern));
    const filter = (name: string) => (pattern === "" || posix.matchesGlob(name, wanted) ? "alone" : "prune");
    const entries: Stat[] = [];
    for (const entry of directoryTree(place.path, { filter }).entries()) {
      entries.push(entry);
      if (entries.length > maxEntries) {
        throw new ResourceExhaustedError(
          `Cannot list ${quoted(path)}: it has more than ${maxEntries} entries, want a pattern`,
        );
      }
    }
    return entries;
  }

  /** What `path` leads to, held until it is disposed of. */
  #find(path: string): { readonly fd: number; readonly path: string } & Disposable {
    try {
      const fd = openInRoot(this.#root, path === "" ? "." : path, O_PATH, 0);
      return { fd, path: `/proc/self/fd/${fd}`, [Symbol.dispose]: () => closeSync(fd) };
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
      switch (code) {
        case "ENOENT":
          throw new NotFoundError(`Cannot open ${quoted(path)}: no such file or directory`, { cause });
        case "ENOTDIR":
        case "ELOOP":
        case "ENAMETOOLONG":
          throw new InvalidArgumentError(`Cannot open ${quoted(path)}: ${code}`, { cause });
        default:
          throw cause;
      }
    }
  }
}

function quoted(path: string): string {
  return JSON.stringify(path.slice(0, 300));
}
