import type { FileSystem } from "./file-system.ts";

/** A file system that gives nobody anything: whatever is asked about a file fails with EIO, and is not remembered. */
export function refuseAll(reason: string): FileSystem {
  const refuse = () => {
    throw new Error(reason);
  };
  return {
    cache: { seconds: 0, absent: false },
    lookup: refuse,
    attributes: refuse,
    readLink: refuse,
    list: refuse,
    xattr: refuse,
    xattrNames: refuse,
    read: refuse,
    interrupt: () => undefined,
  };
}
