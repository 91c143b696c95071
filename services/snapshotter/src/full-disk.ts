import { ResourceExhaustedError } from "@oci-worker/errdefs";

/** How system calls say that there is no room (errno(3)). */
const errnoCodes: readonly unknown[] = ["ENOSPC", "EDQUOT"];

/** SQLITE_FULL (sqlite.org/rescode.html); the bits above the first eight say more exactly what. */
const sqliteFull = 13;
const primaryCodeBits = 0xff;

/**
 * A full disk is no fault of ours and can be mended, so its errors, whoever throws them, become
 * {@link ResourceExhaustedError}. Any other error is returned as it is.
 */
export function explainFullDisk(error: unknown): unknown {
  return isFullDisk(error)
    ? new ResourceExhaustedError(`Cannot write to disk: ${error.message}`, { cause: error })
    : error;
}

function isFullDisk(error: unknown): error is Error {
  if (!(error instanceof Error)) {
    return false;
  }
  if ("code" in error && errnoCodes.includes(error.code)) {
    return true;
  }
  return "errcode" in error && (Number(error.errcode) & primaryCodeBits) === sqliteFull;
}
