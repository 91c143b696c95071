import {
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  mountFlagsOf,
} from "@oci-worker/libc/mount";
import { isInUserNamespace } from "@oci-worker/libc/user-namespace";

/** Flags that stay as they are when a mount comes into a user namespace (mount_namespaces(7), "locked"). */
const lockable: readonly (readonly [option: string, flag: bigint])[] = [
  ["ro", MS_RDONLY],
  ["nosuid", MS_NOSUID],
  ["nodev", MS_NODEV],
  ["noexec", MS_NOEXEC],
  ["noatime", MS_NOATIME],
  ["nodiratime", MS_NODIRATIME],
];

/**
 * The options that a bind mount of `path` must be remounted with, whatever else it is to have: in a user namespace the
 * kernel refuses a remount that would lift a flag which the mount came in with. None outside of one.
 *
 * @throws if there is no such path.
 */
export function lockedOptions(path: string): string[] {
  return isInUserNamespace() ? lockableOptions(path) : [];
}

/**
 * Those that {@link lockedOptions} would be for a process in a user namespace, wherever this one is.
 *
 * @throws if there is no such path.
 */
export function lockableOptions(path: string): string[] {
  const flags = mountFlagsOf(path);
  return lockable.filter(([, flag]) => (flags & flag) !== 0n).map(([option]) => option);
}
