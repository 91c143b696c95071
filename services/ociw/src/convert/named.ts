import { ServiceError } from "@oci-worker/errdefs";

/** `error` with what could not be done because of it in front. It keeps its meaning. */
export function named(what: string, error: unknown): ServiceError {
  const why = error instanceof Error ? error.message : String(error);
  const reason = error instanceof ServiceError ? error.reason : "UNKNOWN";
  return new ServiceError(reason, `${what}: ${why}`, { cause: error });
}
