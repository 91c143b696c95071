import { readInto, writeFrom } from "@oci-worker/libc/descriptor";
import { errno } from "./errno.ts";
import type { FileSystem } from "./file-system.ts";

import { RequestHandler } from "./request-handler.ts";

export interface ServeOptions {
  /** Asked before each request: whether this thread should end and leave the device to another. */
  readonly isStopped?: () => boolean;
  /** Called before each request: the moment to take notice of what others have changed. */
  readonly beforeRequest?: () => void;
  /** Told of what the file system throws. The request that it was about fails with EIO, and others go on. */
  readonly onFailure?: (error: unknown) => void;
}

/**
 * Serves `fileSystem` on the FUSE device `fd`: waits for a request, answers it, and so on. Returns when the file system is
 * unmounted, or somebody has cut its connection, or when `isStopped` says so.
 *
 * It blocks its thread, so it wants one of its own. A thread that waits for the kernel cannot be woken by anything but a request:
 * whoever stops it looks up some name in the mount afterwards, and does not wait for the answer, which may be for the next
 * server to give.
 *
 * @throws {Error} with the errno, if the device cannot be read.
 */
export function serveFileSystem(
  fd: number,
  fileSystem: FileSystem,
  { isStopped = () => false, ...hooks }: ServeOptions = {},
): void {
  const handler = new RequestHandler(fileSystem);
  while (!isStopped()) {
    const length = readInto(fd, handler.request);
    // Cut by hand: what it says depends on who reads first (linux/fuse.h, FUSE_ABORT_ERROR).
    if (length === -errno.ENODEV || length === -errno.ECONNABORTED) {
      return;
    }
    if (length < 0) {
      if (isPassing(-length)) {
        continue;
      }
      throw new Error(`Cannot read requests from FUSE device: errno ${-length}`);
    }
    const replyBytes = answered(handler, length, hooks);
    if (replyBytes > 0) {
      // It fails when whoever asked is gone, or the mount is.
      writeFrom(fd, handler.reply, replyBytes);
    }
  }
}

function answered(
  handler: RequestHandler,
  length: number,
  { beforeRequest, onFailure }: Pick<ServeOptions, "beforeRequest" | "onFailure">,
): number {
  try {
    beforeRequest?.();
    return handler.handle(length);
  } catch (error) {
    onFailure?.(error);
    return handler.fail(errno.EIO);
  }
}

/** ENOENT: whoever asked gave up before we read it. */
function isPassing(code: number): boolean {
  return code === errno.ENOENT || code === errno.EINTR || code === errno.EAGAIN;
}
