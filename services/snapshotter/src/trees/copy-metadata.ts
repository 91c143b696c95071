import { type BigIntStats, chmodSync, fchmodSync, fchownSync, lchownSync } from "node:fs";
import { setTimes, setTimesOf } from "@oci-worker/libc/file";
import { fgetxattr, flistxattr, fsetxattr, lgetxattr, llistxattr, lsetxattr } from "@oci-worker/libc/xattr";
import { failedWith } from "./open-directory.ts";

/**
 * Copies what a file is besides its content.
 *
 * The order matters: a change of owner clears the set-user-ID bits and the file capabilities (chown(2)), and all of it
 * changes the times.
 */
export class MetadataCopier {
  /** Attributes that this process may not set, such as a security module's, with the number of times. */
  readonly skippedAttributes = new Map<string, number>();
  readonly #uid = BigInt(process.geteuid?.() ?? 0);
  readonly #gid = BigInt(process.getegid?.() ?? 0);

  /** For a regular file, open on both sides. */
  copyOpen(stat: BigIntStats, from: number, to: number): void {
    if (!this.#isOurs(stat)) {
      fchownSync(to, Number(stat.uid), Number(stat.gid));
    }
    fchmodSync(to, permissions(stat));
    for (const name of flistxattr(from)) {
      this.#copyAttribute(name, () => fsetxattr(to, name, fgetxattr(from, name)));
    }
    setTimesOf(to, stat.atimeNs, stat.mtimeNs);
  }

  /** For anything else. A symbolic link is not followed. */
  copy(stat: BigIntStats, from: Buffer, to: Buffer): void {
    if (!this.#isOurs(stat)) {
      lchownSync(to, Number(stat.uid), Number(stat.gid));
    }
    if (!stat.isSymbolicLink()) {
      chmodSync(to, permissions(stat));
    }
    for (const name of llistxattr(from)) {
      this.#copyAttribute(name, () => lsetxattr(to, name, lgetxattr(from, name)));
    }
    setTimes(to, stat.atimeNs, stat.mtimeNs);
  }

  /** What we make is ours already, and most of an image belongs to root. */
  #isOurs({ uid, gid }: BigIntStats): boolean {
    return uid === this.#uid && gid === this.#gid;
  }

  #copyAttribute(name: string, copy: () => void): void {
    try {
      copy();
    } catch (error) {
      if (!failedWith(error, "EPERM") && !failedWith(error, "ENOTSUP") && !failedWith(error, "EOPNOTSUPP")) {
        throw error;
      }
      this.skippedAttributes.set(name, (this.skippedAttributes.get(name) ?? 0) + 1);
    }
  }
}

function permissions({ mode }: BigIntStats): number {
  return Number(mode & 0o7777n);
}
