import {
  type BigIntStats,
  closeSync,
  constants,
  type Dirent,
  fstatSync,
  openSync,
  readdirSync,
} from "node:fs";

/** Names are bytes: a tree that was unpacked from an archive may have names that are no UTF-8. */
export type Entry = Dirent<Buffer>;

/** Refuses what is no directory, a symbolic link to one included. */
const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * A directory held open, whose entries are reached through its descriptor.
 *
 * Somebody who can write to a tree can put a symbolic link in the place of a directory while we walk it. A path that
 * begins at a descriptor never leads through such a link, and is never too long for the kernel either.
 */
export class OpenDirectory implements Disposable {
  readonly fd: number;
  readonly #prefix: Buffer;

  constructor(path: string | Buffer) {
    this.fd = openSync(path, flags);
    this.#prefix = Buffer.from(`/proc/self/fd/${this.fd}/`);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }

  entries(): Entry[] {
    return readdirSync(this.#prefix, { withFileTypes: true, encoding: "buffer" });
  }

  /** A path of the entry `name`, good as long as this directory is open. */
  pathOf(name: Buffer): Buffer {
    return Buffer.concat([this.#prefix, name]);
  }

  stat(): BigIntStats {
    return fstatSync(this.fd, { bigint: true });
  }
}

/** A directory in a directory, in a directory: deeper than any path that programs can name goes only an attacker. */
export const maxDepth = 2048;

/** Whether a system call failed with the error `code`, such as "ENOENT". */
export function failedWith(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
