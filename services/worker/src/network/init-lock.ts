import { open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { tryLockExclusively } from "@oci-worker/libc/file";
import type { Logger } from "pino";

/** A lock that another process holds is tried again this often. */
const retryMs = 50;

/**
 * Does `work` while this process alone holds the lock on the file `path` (flock(2)), which is made if it is not there;
 * without a lock if there is no path.
 *
 * @throws {FailedPreconditionError} if the file cannot be opened.
 */
export async function lockedBy<T>(path: string | undefined, log: Logger, work: () => Promise<T>): Promise<T> {
  if (path === undefined) {
    return await work();
  }
  await using file = await openLock(path);
  if (!tryLockExclusively(file.fd)) {
    log.info({ path }, "waiting for another worker to try its network out");
    do {
      await delay(retryMs);
    } while (!tryLockExclusively(file.fd));
  }
  return await work();
}

async function openLock(path: string) {
  try {
    return await open(path, "a", 0o600);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(`Cannot use BUILDKIT_CNI_INIT_LOCK_PATH ${path}: ${why}`, { cause });
  }
}
