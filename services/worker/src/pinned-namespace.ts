import { execFile } from "node:child_process";
import { rm, stat, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { UnavailableError } from "@oci-worker/errdefs";
import { isMountRoot, MS_BIND, mount } from "@oci-worker/libc/mount";
import { whileInNamespace } from "@oci-worker/mounts/child-in-namespace";
import { unmount } from "@oci-worker/mounts/mount";

const run = promisify(execFile);

/** Making a network name space waits for others that are just being taken down. */
const timeoutMs = 30_000;

/**
 * Makes a name space of `kind`, empty, that lives without any process in it: it is mounted on the file `path`, which is
 * made.
 *
 * A child makes it, because a thread of ours that entered it would have to find back. `unshare` is part of util-linux.
 *
 * @throws {UnavailableError} if it cannot be made; then there is no file either.
 */
export async function pinNamespace(kind: "net" | "ipc", path: string): Promise<void> {
  await writeFile(path, "", { flag: "wx", mode: 0o600 });
  try {
    await run("unshare", [`--${kind}=${path}`, "true"], { timeout: timeoutMs, killSignal: "SIGKILL" });
  } catch (cause) {
    await unpinNamespace(path);
    throw unavailable(kind, path, cause);
  }
}

/**
 * Makes a network name space, as {@link pinNamespace} does, that belongs to the user namespace at `owner`: whose root has all
 * rights over it. It is made in there, but pinned from here, where nobody in there may mount anything.
 *
 * @throws {UnavailableError} if it cannot be made; then there is no file either.
 */
export async function pinNetworkOf(owner: string, path: string): Promise<void> {
  await writeFile(path, "", { flag: "wx", mode: 0o600 });
  try {
    await whileInNamespace(["nsenter", `--user=${owner}`, "unshare", "--net"], (pid) =>
      mount(`/proc/${pid}/ns/net`, path, "", MS_BIND, ""),
    );
  } catch (cause) {
    await unpinNamespace(path);
    throw unavailable("net", path, cause);
  }
}

function unavailable(kind: string, path: string, cause: unknown): UnavailableError {
  const why = cause instanceof Error ? cause.message.trim() : String(cause);
  return new UnavailableError(`Cannot make a name space of kind ${kind} at ${path}: ${why}`, { cause });
}

/** Lets go of a name space: it ends, with what is in it, when no process is in it any more. */
export async function unpinNamespace(path: string): Promise<void> {
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

/** What /proc/PID/ns/KIND links to for a process in the name space at `path` (namespaces(7)). */
export async function linkOf(kind: "net" | "ipc", path: string): Promise<string> {
  return `${kind}:[${(await stat(path)).ino}]`;
}
