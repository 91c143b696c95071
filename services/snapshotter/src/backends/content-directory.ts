import { chmodSync, lchownSync, lstatSync, mkdirSync } from "node:fs";

/** What everyone expects of "/": containers run as all kinds of users. */
const mode = 0o755;

/**
 * Makes an empty content directory `path`: mode 0755 whatever the umask, owner and group those of `parent`'s if there
 * is one, so that whoever owns the root of an image owns the root of a container on it.
 *
 * Synchronous like all that is done for each snapshot on disk: a handful of system calls takes less time than handing
 * them to the thread pool.
 */
export function makeContentDirectory(path: string, parent: string | undefined): void {
  mkdirSync(path, mode);
  chmodSync(path, mode);
  if (parent !== undefined) {
    const { uid, gid } = lstatSync(parent);
    lchownSync(path, uid, gid);
  }
}
