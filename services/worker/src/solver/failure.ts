import { type Reason, ServiceError, UnknownError } from "@oci-worker/errdefs";
import type { Digest } from "@oci-worker/oci/digest";

/** A command of a step has ended with another exit code than 0. */
export class ExitError extends UnknownError {
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** A vertex has failed; the message is that of its cause, for clients show it beneath the vertex's name. */
export class VertexError extends ServiceError {
  readonly vertex: Digest;

  constructor(vertex: Digest, cause: unknown) {
    super(reasonOf(cause), messageOf(cause), { cause });
    this.vertex = vertex;
  }
}

/** `error` as clients may be told of it. */
export function failureOf(error: unknown): ServiceError {
  return error instanceof ServiceError
    ? error
    : new ServiceError(reasonOf(error), messageOf(error), { cause: error });
}

/** What upstream's clients know a canceled vertex by. */
const canceled = "context canceled";

/** The text of a failure as users see it. What was not written for them stays in the log. */
export function messageOf(error: unknown): string {
  if (error instanceof ServiceError) {
    return error.reason === "CANCELED" ? canceled : error.message;
  }
  return isAbort(error) ? canceled : "internal error";
}

function reasonOf(error: unknown): Reason {
  if (error instanceof ServiceError) {
    return error.reason;
  }
  return isAbort(error) ? "CANCELED" : "INTERNAL";
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}
