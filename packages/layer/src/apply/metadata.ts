import { chmodSync, fchmodSync, fchownSync, lchownSync, type Stats } from "node:fs";
import { setTimes, setTimesOf } from "@oci-worker/libc/file";
import { fsetxattr, lsetxattr } from "@oci-worker/libc/xattr";
import { type ByteString, pathOf } from "../tar/byte-string.ts";
import type { EntryType, TarEntry } from "../tar/entry.ts";
import { countableNs, reservedFor } from "./metadata-rules.ts";
import { codeOf } from "./system-error.ts";

/** Told of an attribute that is not set, and why. */
export type OnSkippedXattr = (name: ByteString, why: string) => void;

/**
 * Gives what is at `path`, a link not followed, the owner, attributes, mode and times of `entry`.
 *
 * @param found what is there if it was there before, under another name; undefined if it has just been made.
 */
export function setMetadata(
  path: ByteString,
  entry: TarEntry,
  onSkipped: OnSkippedXattr,
  found?: Stats,
): void {
  const at = pathOf(path);
  // chown(2) takes a file's capabilities away, even if it changes nothing, and GNU tar has them only at the first name.
  if (found?.uid !== entry.uid || found.gid !== entry.gid) {
    giveTo(entry, () => lchownSync(at, entry.uid, entry.gid));
  }
  setXattrs(entry, onSkipped, (name, value) => lsetxattr(at, name, value));
  // After chown(2), which clears the setuid and setgid bits. Not on a link: it would be followed (CVE-2021-32760).
  if (!(found?.isSymbolicLink() ?? entry.type === "symlink")) {
    chmodSync(at, entry.mode);
  }
  const { accessedNs, modifiedNs } = timesOf(entry);
  setTimes(at, accessedNs, modifiedNs);
}

/** The same for an open file. */
export function setFileMetadata(fd: number, entry: TarEntry, onSkipped: OnSkippedXattr): void {
  giveTo(entry, () => fchownSync(fd, entry.uid, entry.gid));
  setXattrs(entry, onSkipped, (name, value) => fsetxattr(fd, name, value));
  fchmodSync(fd, entry.mode);
  const { accessedNs, modifiedNs } = timesOf(entry);
  setTimesOf(fd, accessedNs, modifiedNs);
}

/** In a user namespace there are only so many ids; the kernel says no more than EINVAL of another one (chown(2)). */
function giveTo({ uid, gid }: TarEntry, change: () => void): void {
  try {
    change();
  } catch (cause) {
    if (codeOf(cause) !== "EINVAL") {
      throw cause;
    }
    const error = new Error(
      `its owner ${uid}:${gid} is not among the ids of this user namespace, want more of them in /etc/subuid and /etc/subgid`,
      { cause },
    );
    throw Object.assign(error, { code: "EINVAL" });
  }
}

/** As containerd has them: accessed no earlier than modified, and 1970 for what the kernel cannot count. */
export function timesOf({ accessedNs, modifiedNs }: TarEntry): { accessedNs: bigint; modifiedNs: bigint } {
  const accessed = accessedNs !== undefined && accessedNs > modifiedNs ? accessedNs : modifiedNs;
  return { accessedNs: countableNs(accessed), modifiedNs: countableNs(modifiedNs) };
}

function setXattrs(
  { type, xattrs }: TarEntry,
  onSkipped: OnSkippedXattr,
  set: (name: string | Buffer, value: Buffer) => void,
): void {
  for (const { name, value } of xattrs) {
    const reserved = reservedFor(name);
    if (reserved !== undefined) {
      onSkipped(name, reserved);
      continue;
    }
    try {
      set(pathOf(name), value);
    } catch (error) {
      const why = harmless(name, type, codeOf(error));
      if (why === undefined) {
        throw error;
      }
      onSkipped(name, why);
    }
  }
}

/** Why an attribute that cannot be set is no loss; undefined if it is one. */
function harmless(name: ByteString, type: EntryType, code: string | undefined): string | undefined {
  if (code === "ENOTSUP") {
    return "the file system has no such attributes";
  }
  const mayHaveUserXattrs = type === "file" || type === "directory";
  return code === "EPERM" && name.startsWith("user.") && !mayHaveUserXattrs
    ? "only files and directories have user attributes (xattr(7))"
    : undefined;
}
