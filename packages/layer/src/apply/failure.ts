import {
  DataLossError,
  FailedPreconditionError,
  InvalidArgumentError,
  PermissionDeniedError,
  type Reason,
  ResourceExhaustedError,
  ServiceError,
} from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";
import { type ByteString, quoted } from "../tar/byte-string.ts";
import type { Failure } from "./messages.ts";
import { codeOf } from "./system-error.ts";

/** What the errors of system calls mean while a layer is unpacked; any other is ours to look into. */
const reasonOfCode: Readonly<Record<string, Reason>> = {
  // The disk, the quota, the inodes.
  ENOSPC: "RESOURCE_EXHAUSTED",
  EDQUOT: "RESOURCE_EXHAUSTED",
  EFBIG: "RESOURCE_EXHAUSTED",
  EMLINK: "RESOURCE_EXHAUSTED",
  // What no file system can hold, or what is in the way of it.
  E2BIG: "INVALID_ARGUMENT",
  EINVAL: "INVALID_ARGUMENT",
  EISDIR: "INVALID_ARGUMENT",
  ELOOP: "INVALID_ARGUMENT",
  ENAMETOOLONG: "INVALID_ARGUMENT",
  ENOENT: "INVALID_ARGUMENT",
  ENOTDIR: "INVALID_ARGUMENT",
  ERR_INVALID_ARG_VALUE: "INVALID_ARGUMENT",
  // What this host or this mount does not let us do.
  EACCES: "PERMISSION_DENIED",
  EPERM: "PERMISSION_DENIED",
  EBUSY: "FAILED_PRECONDITION",
  EROFS: "FAILED_PRECONDITION",
};

/**
 * What `thrown` means for the caller, with what could not be done.
 *
 * @param entry the name of the entry at which it happened. Our own errors name it where it matters.
 */
export function failureOf(thrown: unknown, digest: Digest, entry: ByteString | undefined): Failure {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const isOurs = error instanceof ServiceError;
  const where = isOurs || entry === undefined ? "" : `entry ${quoted(entry)}: `;
  return {
    reason: isOurs ? error.reason : (reasonOfCode[codeOf(error) ?? ""] ?? "INTERNAL"),
    message: `Cannot apply layer ${digest}: ${where}${error.message}`,
    cause: error.stack,
  };
}

/** The error that `failure` was in the other thread. */
export function errorOf({ reason, message, cause }: Failure): ServiceError {
  const options = { cause };
  switch (reason) {
    case "DATA_LOSS":
      return new DataLossError(message, options);
    case "FAILED_PRECONDITION":
      return new FailedPreconditionError(message, options);
    case "INVALID_ARGUMENT":
      return new InvalidArgumentError(message, options);
    case "PERMISSION_DENIED":
      return new PermissionDeniedError(message, options);
    case "RESOURCE_EXHAUSTED":
      return new ResourceExhaustedError(message, options);
    default:
      return new ServiceError(reason, message, options);
  }
}
