import { Code, ConnectError } from "@connectrpc/connect";
import {
  AbortedError,
  AlreadyExistsError,
  CanceledError,
  DataLossError,
  DeadlineExceededError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  type Reason,
  ResourceExhaustedError,
  ServiceError,
  UnauthenticatedError,
  UnavailableError,
  UnimplementedError,
  UnknownError,
} from "./index.ts";

/** The one table that ties a meaning to a gRPC status code; a new `Reason` does not compile without a row. */
const codeOf = {
  ABORTED: Code.Aborted,
  ALREADY_EXISTS: Code.AlreadyExists,
  CANCELED: Code.Canceled,
  DATA_LOSS: Code.DataLoss,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  FAILED_PRECONDITION: Code.FailedPrecondition,
  INTERNAL: Code.Internal,
  INVALID_ARGUMENT: Code.InvalidArgument,
  NOT_FOUND: Code.NotFound,
  OUT_OF_RANGE: Code.OutOfRange,
  PERMISSION_DENIED: Code.PermissionDenied,
  RESOURCE_EXHAUSTED: Code.ResourceExhausted,
  UNAUTHENTICATED: Code.Unauthenticated,
  UNAVAILABLE: Code.Unavailable,
  UNIMPLEMENTED: Code.Unimplemented,
  UNKNOWN: Code.Unknown,
} as const satisfies Record<Reason, Code>;

/** What a caller is told of a failure. */
export interface Status {
  readonly code: Code;
  readonly message: string;
}

/**
 * The status of anything a handler has thrown.
 *
 * A {@link ServiceError} keeps its message, because we wrote it for the caller. Any other error is a bug
 * or a leak, so the caller is told only "internal error" and the original is for the log.
 */
export function statusOf(thrown: unknown): Status {
  if (thrown instanceof ServiceError) {
    return { code: codeOf[thrown.reason], message: thrown.message };
  }
  if (thrown instanceof ConnectError) {
    return { code: thrown.code, message: thrown.rawMessage };
  }
  if (thrown instanceof Error && thrown.name === "AbortError") {
    return { code: Code.Canceled, message: "request canceled" };
  }
  return { code: Code.Internal, message: "internal error" };
}

/**
 * The status of a failure of work on files of ours, of which the caller is to know: what is no {@link ServiceError} comes from a
 * system call then, and is told.
 */
export function statusOfFileWork(thrown: unknown): Status {
  if (thrown instanceof ServiceError) {
    return statusOf(thrown);
  }
  const code = thrown instanceof Error && "code" in thrown ? thrown.code : undefined;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return { code: code === "ENOSPC" || code === "EDQUOT" ? Code.ResourceExhausted : Code.Unknown, message };
}

/** The error class of a status that another service has answered, so that callers branch on meanings. */
export function errorOf({ code, message }: Status, options?: ErrorOptions): ServiceError {
  switch (code) {
    case Code.Aborted:
      return new AbortedError(message, options);
    case Code.AlreadyExists:
      return new AlreadyExistsError(message, options);
    case Code.Canceled:
      return new CanceledError(message, options);
    case Code.DataLoss:
      return new DataLossError(message, options);
    case Code.DeadlineExceeded:
      return new DeadlineExceededError(message, options);
    case Code.FailedPrecondition:
      return new FailedPreconditionError(message, options);
    case Code.Internal:
      return new ServiceError("INTERNAL", message, options);
    case Code.InvalidArgument:
      return new InvalidArgumentError(message, options);
    case Code.NotFound:
      return new NotFoundError(message, options);
    case Code.OutOfRange:
      return new ServiceError("OUT_OF_RANGE", message, options);
    case Code.PermissionDenied:
      return new PermissionDeniedError(message, options);
    case Code.ResourceExhausted:
      return new ResourceExhaustedError(message, options);
    case Code.Unauthenticated:
      return new UnauthenticatedError(message, options);
    case Code.Unavailable:
      return new UnavailableError(message, options);
    case Code.Unimplemented:
      return new UnimplementedError(message, options);
    case Code.Unknown:
      return new UnknownError(message, options);
  }
}

/**
 * Turns what a gRPC client call has thrown into a {@link ServiceError} of the same meaning and text.
 *
 * @returns `thrown` itself when it is no answer of a service.
 */
export function fromConnectError(thrown: unknown): unknown {
  if (thrown instanceof ConnectError) {
    return errorOf({ code: thrown.code, message: thrown.rawMessage }, { cause: thrown });
  }
  return thrown;
}
