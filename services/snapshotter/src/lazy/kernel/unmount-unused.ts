import { UMOUNT_NOFOLLOW, umount2 } from "@oci-worker/libc/mount";
import { codeOf } from "./error-code.ts";

/** Unmounts `target`, if something is mounted there. @throws EBUSY while somebody uses it. */
export function unmountUnused(target: string): void {
  try {
    umount2(target, UMOUNT_NOFOLLOW);
  } catch (error) {
    if (codeOf(error) !== "EINVAL" && codeOf(error) !== "ENOENT") {
      throw error;
    }
  }
}
