import {
  PermissionDeniedError,
  ResourceExhaustedError,
  type ServiceError,
  UnknownError,
} from "@oci-worker/errdefs";

/**
 * Runs `write`, which makes the entry `path`. What the system says against it becomes an error that names the entry and
 * not our temporary names, fit to be told to the sender.
 */
export function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && "syscall" in cause) {
      throw failureOf(path, cause as NodeJS.ErrnoException);
    }
    throw cause;
  }
}

function failureOf(path: string, cause: NodeJS.ErrnoException): ServiceError {
  const message = `Cannot write ${JSON.stringify(path.slice(0, 300))}: ${cause.code} from ${cause.syscall}`;
  switch (cause.code) {
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new PermissionDeniedError(message, { cause });
    case "EDQUOT":
    case "EMFILE":
    case "ENOSPC":
      return new ResourceExhaustedError(message, { cause });
    default:
      return new UnknownError(message, { cause });
  }
}
