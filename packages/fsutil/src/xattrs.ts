import { lgetxattr, llistxattr, lsetxattr } from "@oci-worker/libc/xattr";

/** An attribute that was left out of a transfer, and why. */
export interface SkippedXattr {
  readonly path: string;
  readonly name: string;
  readonly reason: string;
}

/**
 * Whether an extended attribute means the same on another machine and to whoever receives it.
 *
 * Others are the kernel's own: `trusted.*` and `user.overlay.*` steer overlayfs, so a tree could make the receiver's
 * mounts show what is not there; `security.*` but file capabilities belongs to the security module of one host.
 */
function isPortable(name: string): boolean {
  return (
    (name.startsWith("user.") && !name.startsWith("user.overlay.")) ||
    name === "security.capability" ||
    name === "system.posix_acl_access" ||
    name === "system.posix_acl_default"
  );
}

/** The portable attributes of `path`, a symbolic link not followed; none where the file system has none. */
export function readXattrs(path: string): Record<string, Uint8Array> {
  try {
    const names = llistxattr(path).filter(isPortable);
    return Object.fromEntries(names.map((name) => [name, lgetxattr(path, name)]));
  } catch (error) {
    if (codeOf(error) === "ENOTSUP" || codeOf(error) === "EOPNOTSUPP") {
      return {};
    }
    throw error;
  }
}

/**
 * Sets those of `xattrs` that are portable and that we may set.
 *
 * @returns why an attribute was left out, by its name.
 * @throws {SystemError} for any other failure, such as a full disk.
 */
export function writeXattrs(path: string, xattrs: Readonly<Record<string, Uint8Array>>): Map<string, string> {
  const skipped = new Map<string, string>();
  for (const [name, value] of Object.entries(xattrs)) {
    if (!isPortable(name)) {
      skipped.set(name, "it means something to the sender's machine alone");
      continue;
    }
    try {
      lsetxattr(path, name, value);
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined || !cannotHave.has(code)) {
        throw error;
      }
      skipped.set(name, code);
    }
  }
  return skipped;
}

/** The file system, the file type or our rights do not allow the attribute. */
const cannotHave: ReadonlySet<string> = new Set(["ENOTSUP", "EOPNOTSUPP", "EPERM", "EACCES"]);

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}
