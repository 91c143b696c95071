import { UMOUNT_NOFOLLOW, umount2 } from "@oci-worker/libc/mount";
import { codeOf } from "./error-code.ts";

/** Unmounts all that is mounted at `target`, the last first. @throws EBUSY while somebody uses it. */
export function unmountUnused(target: string): void {
  try {
    for (;;) {
      umount2(target, UMOUNT_NOFOLLOW);
    }
  } catch (error) {
    if (codeOf(error) !== "EINVAL" && codeOf(error) !== "ENOENT") {
      throw error;
    }
  }
}
