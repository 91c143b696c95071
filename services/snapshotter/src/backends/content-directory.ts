import { chmodSync, lchownSync, lstatSync, mkdirSync } from "node:fs";

/** Whom a file belongs to. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** What everyone expects of "/": containers run as all kinds of users. */
const mode = 0o755;

/**
 * Makes an empty content directory `path`: mode 0755 whatever the umask, `owner`'s or else ours.
 *
 * Synchronous like all that is done for each snapshot on disk: a handful of system calls takes less time than handing
 * them to the thread pool.
 */
export function makeContentDirectory(path: string, owner: Owner | undefined): void {
  mkdirSync(path, mode);
  chmodSync(path, mode);
  if (owner !== undefined) {
    lchownSync(path, owner.uid, owner.gid);
  }
}

/**
 * The owner of the content directory `parentContent`, if there is one: whoever owns the root of an image owns the root
 * of a container on it.
 */
export function ownerOf(parentContent: string | undefined): Owner | undefined {
  return parentContent === undefined ? undefined : lstatSync(parentContent);
}
