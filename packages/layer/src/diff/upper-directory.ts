import { lgetxattr } from "@oci-worker/libc/xattr";

/** Where overlayfs keeps its own attributes; the second one in user namespaces (Documentation/filesystems/overlayfs.rst). */
const prefixes = ["trusted.overlay.", "user.overlay."] as const;

/**
 * Whether the directory `path` of an overlay's upper directory stands for all that the overlay shows there, and not only for
 * what differs from the directory of that name beneath: it is opaque, or was renamed.
 */
export function isWholeDirectory(path: Buffer): boolean {
  return prefixes.some(
    (prefix) =>
      attribute(path, `${prefix}opaque`) === "y" || attribute(path, `${prefix}redirect`) !== undefined,
  );
}

function attribute(path: Buffer, name: string): string | undefined {
  try {
    return lgetxattr(path, name).toString();
  } catch (error) {
    if (failedWith(error, "ENODATA") || failedWith(error, "ENOTSUP") || failedWith(error, "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}

/** Whether a system call failed with the error `code`, such as "ENOENT". */
export function failedWith(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
