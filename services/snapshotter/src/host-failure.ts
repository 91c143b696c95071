import { FailedPreconditionError, ResourceExhaustedError, ServiceError } from "@oci-worker/errdefs";

/** How system calls say that there is no room (errno(3)). */
const fullCodes: readonly unknown[] = ["ENOSPC", "EDQUOT"];

// Primary result codes of SQLite (sqlite.org/rescode.html); the bits above the first eight say more exactly what.
const [SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL] = [8, 10, 13];
const primaryCodeBits = 0xff;

/** How system calls say that this process, or the whole host, has no descriptor left for another file (errno(3)). */
const tooManyFilesCodes: readonly unknown[] = ["EMFILE", "ENFILE"];

/**
 * What the host lacks is for the operator to mend, so errors of that, whoever throws them, become ones that callers are
 * told: {@link ResourceExhaustedError} for a disk that is full and for too many open files,
 * {@link FailedPreconditionError} for a disk that was made read-only, and one with the reason INTERNAL for one that
 * fails. Any other error is returned as it is.
 */
export function explainHostFailure(error: unknown): unknown {
  if (!(error instanceof Error)) {
    return error;
  }
  const message = `Cannot write to disk: ${error.message}`;
  const code = "code" in error ? error.code : undefined;
  // A thread that cannot be started for want of descriptors says so in its message alone.
  if (tooManyFilesCodes.includes(code === "ERR_WORKER_INIT_FAILED" ? lastWord(error.message) : code)) {
    return new ResourceExhaustedError(
      `Cannot open another file: ${error.message}, want a higher limit of open files (ulimit -n, LimitNOFILE=) or fewer clients`,
      { cause: error },
    );
  }
  if (isFullDisk(error)) {
    return new ResourceExhaustedError(message, { cause: error });
  }
  if (code === "EROFS" || sqliteCode(error) === SQLITE_READONLY) {
    return new FailedPreconditionError(message, { cause: error });
  }
  if (code === "EIO" || sqliteCode(error) === SQLITE_IOERR) {
    // SQLite says no more, whether the device fails or the kernel has made its file system read-only because of that.
    return new ServiceError("INTERNAL", `${message}, want a file system that is healthy and writable`, {
      cause: error,
    });
  }
  return error;
}

/** Whether a system call or SQLite says that there is no room on the disk. */
export function isFullDisk(error: unknown): boolean {
  return (
    error instanceof Error &&
    (("code" in error && fullCodes.includes(error.code)) || sqliteCode(error) === SQLITE_FULL)
  );
}

function lastWord(text: string): string | undefined {
  return text.split(" ").at(-1);
}

function sqliteCode(error: Error): number | undefined {
  return "errcode" in error ? Number(error.errcode) & primaryCodeBits : undefined;
}
