/**
 * What can go wrong, as meanings. Domain code throws these; only `connect.ts` knows which gRPC status
 * each of them is.
 *
 * The meanings are containerd's errdefs, because containerd's and BuildKit's clients branch on them.
 */
export type Reason =
  | "ABORTED"
  | "ALREADY_EXISTS"
  | "CANCELED"
  | "DATA_LOSS"
  | "DEADLINE_EXCEEDED"
  | "FAILED_PRECONDITION"
  | "INTERNAL"
  | "INVALID_ARGUMENT"
  | "NOT_FOUND"
  | "OUT_OF_RANGE"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "UNAUTHENTICATED"
  | "UNAVAILABLE"
  | "UNIMPLEMENTED"
  | "UNKNOWN";

/**
 * An error that we wrote for the caller: its message goes over the wire as it is.
 *
 * So it never holds a secret, and it says what could not be done, to what, why, and what is wanted.
 */
export class ServiceError extends Error {
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.reason = reason;
  }
}

/** The operation lost against another one and may be tried again from its beginning. */
export class AbortedError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("ABORTED", message, options);
  }
}

/** The key, name or digest is taken. */
export class AlreadyExistsError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("ALREADY_EXISTS", message, options);
  }
}

/** The caller went away or took the request back. */
export class CanceledError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("CANCELED", message, options);
  }
}

/** Bytes are not what their digest or size promised. */
export class DataLossError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("DATA_LOSS", message, options);
  }
}

/** The caller's deadline, or a limit of our own, passed first. */
export class DeadlineExceededError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("DEADLINE_EXCEEDED", message, options);
  }
}

/** The request is well formed, but the thing it names is not in a state that allows it. */
export class FailedPreconditionError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("FAILED_PRECONDITION", message, options);
  }
}

/** The request itself is wrong, whatever the state of the system. */
export class InvalidArgumentError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("INVALID_ARGUMENT", message, options);
  }
}

/** The thing that was named does not exist. */
export class NotFoundError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("NOT_FOUND", message, options);
  }
}

/** Who asks is known and may not. */
export class PermissionDeniedError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("PERMISSION_DENIED", message, options);
  }
}

/** A limit of size, count or disk space is reached. */
export class ResourceExhaustedError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("RESOURCE_EXHAUSTED", message, options);
  }
}

/** Nobody has shown a credential that works. */
export class UnauthenticatedError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNAUTHENTICATED", message, options);
  }
}

/** The other side cannot be reached or is overloaded; the same request may succeed later. */
export class UnavailableError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNAVAILABLE", message, options);
  }
}

/** This program does not do that. */
export class UnimplementedError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNIMPLEMENTED", message, options);
  }
}

/** A failure with no better class that its cause is fit to be shown, such as the error of a build step. */
export class UnknownError extends ServiceError {
  constructor(message: string, options?: ErrorOptions) {
    super("UNKNOWN", message, options);
  }
}
