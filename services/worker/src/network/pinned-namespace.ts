import { execFile } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { UnavailableError } from "@oci-worker/errdefs";
import { isMountRoot } from "@oci-worker/libc/mount";
import { unmount } from "@oci-worker/mounts/mount";

const run = promisify(execFile);

/** Making a network name space waits for others that are just being taken down. */
const timeoutMs = 30_000;

/**
 * Makes a network name space, empty, that lives without any process in it: it is mounted on the file `path`, which is
 * made.
 *
 * A child makes it, because a thread of ours that entered it would have to find back. `unshare` is part of util-linux.
 *
 * @throws {UnavailableError} if it cannot be made; then there is no file either.
 */
export async function pinNetworkNamespace(path: string): Promise<void> {
  await writeFile(path, "", { flag: "wx", mode: 0o600 });
  try {
    await run("unshare", [`--net=${path}`, "true"], { timeout: timeoutMs, killSignal: "SIGKILL" });
  } catch (cause) {
    await unpinNetworkNamespace(path);
    const why = cause instanceof Error ? cause.message.trim() : String(cause);
    throw new UnavailableError(`Cannot make a network name space at ${path}: ${why}`, { cause });
  }
}

/** Lets go of a name space: it ends, with the devices in it, when no process is in it any more. */
export async function unpinNetworkNamespace(path: string): Promise<void> {
  await unmount(path);
  await rm(path, { force: true });
}

/** Whether a name space is mounted at `path`, which after a restart of the machine it is not any more. */
export function isPinned(path: string): boolean {
  try {
    return isMountRoot(path) !== false;
  } catch {
    return false;
  }
}
