import { closeSync, constants, openSync } from "node:fs";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import {
  configureLoop,
  getFreeLoop,
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_READ_ONLY,
} from "@oci-worker/libc/loop";

/** A block device that shows a file. Disposing closes it; it is gone when nothing is mounted from it either. */
export interface LoopDevice extends Disposable {
  readonly path: string;
}

const flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;

/** Between finding a free device and taking it, others may have. */
const maxAttempts = 50;

/**
 * Shows the file `path` as a block device, read-only.
 *
 * @throws {FailedPreconditionError} with what the kernel said: no right to, or no loop devices.
 */
export function attachLoop(path: string): LoopDevice {
  try {
    using closing = new DisposableStack();
    const file = openSync(path, "r");
    closing.defer(() => closeSync(file));
    const control = openSync("/dev/loop-control", constants.O_RDWR);
    closing.defer(() => closeSync(control));
    for (let attempt = 1; ; attempt += 1) {
      const devicePath = `/dev/loop${getFreeLoop(control)}`;
      const device = openSync(devicePath, "r");
      try {
        configureLoop(device, file, flags, path);
        return { path: devicePath, [Symbol.dispose]: () => closeSync(device) };
      } catch (error) {
        closeSync(device);
        const isTaken = error instanceof Error && "code" in error && error.code === "EBUSY";
        if (!isTaken || attempt === maxAttempts) {
          throw error;
        }
      }
    }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(`Cannot make a loop device of ${path}: ${why}`, { cause });
  }
}
