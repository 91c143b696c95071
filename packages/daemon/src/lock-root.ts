import { type FileHandle, mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { tryLockExclusively } from "@oci-worker/libc/file";

/**
 * Makes `root` this process's own until it is disposed of or the process ends: one instance a root.
 *
 * The directory is made, readable by its owner alone, if it is not there. The file `name` in it stays, with the
 * number of the process that holds or held it.
 *
 * @throws {FailedPreconditionError} naming the process that holds the root, or why the root cannot be written to.
 */
export async function lockRoot(root: string, name: string): Promise<AsyncDisposable> {
  const file = await openLock(root, name);
  try {
    if (!tryLockExclusively(file.fd)) {
      throw new FailedPreconditionError(
        `Cannot use ${root}: could not lock ${name}, another instance running? Its pid is ${await lockHolder(file)}`,
      );
    }
    await noteLockHolder(file, process.pid);
  } catch (error) {
    await file.close();
    throw error;
  }
  return { [Symbol.asyncDispose]: () => file.close() };
}

async function openLock(root: string, name: string): Promise<FileHandle> {
  try {
    await makeDirectory(root);
    return await open(join(root, name), "a+", 0o600);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(`Cannot use ${root}: ${why}, want a directory that can be written to`, {
      cause,
    });
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch {
    // Of a read-only file system Node says that there is no such file when it makes parents, too.
    await mkdir(path, { mode: 0o700 });
  }
}

/** Notes in the file of a lock, which is open for appending, which process holds it. */
export async function noteLockHolder(file: FileHandle, pid: number): Promise<void> {
  await file.truncate();
  await file.write(`${pid}\n`);
}

/** The process that {@link noteLockHolder} has noted. */
export async function lockHolder(file: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(32), 0, 32, 0);
  return buffer.toString("utf8", 0, bytesRead).trim() || "not known";
}
