import { lgetxattr, llistxattr } from "@oci-worker/libc/xattr";
import { reservedFor } from "../apply/metadata-rules.ts";
import { failedWith } from "./upper-directory.ts";

/** Of this machine and not of the files: what SELinux and the integrity subsystem note on each file that they see. */
const hostOwn: ReadonlySet<string> = new Set(["security.selinux", "security.ima", "security.evm"]);

/**
 * The extended attributes of what is at `path` that belong into a layer, by name: those that an unpacker would give back, of
 * which capabilities are the most usual.
 */
export function layerXattrs(path: Buffer): Record<string, Buffer> {
  const attributes: Record<string, Buffer> = {};
  for (const name of namesAt(path)) {
    if (!hostOwn.has(name) && reservedFor(name) === undefined) {
      attributes[name] = lgetxattr(path, name);
    }
  }
  return attributes;
}

function namesAt(path: Buffer): string[] {
  try {
    return llistxattr(path).sort();
  } catch (error) {
    if (failedWith(error, "ENOTSUP")) {
      return [];
    }
    throw error;
  }
}
