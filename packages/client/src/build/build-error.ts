import { ConnectError } from "@connectrpc/connect";
import { type Reason, ServiceError } from "@oci-worker/errdefs";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import { errorDetails, statusOfError } from "./error-details.ts";

/** A build has failed. */
export class BuildError extends ServiceError {
  /** Digest of the step that failed, if it was one. */
  readonly vertex: string | undefined;
  /** Exit code of the process that failed, if it was one. */
  readonly exitCode: number | undefined;

  constructor(
    reason: Reason,
    message: string,
    options: ErrorOptions & { readonly vertex?: string | undefined; readonly exitCode?: number | undefined },
  ) {
    super(reason, message, options);
    this.vertex = options.vertex;
    this.exitCode = options.exitCode;
  }
}

/** What daemons put before every failure of Solve; it says nothing. */
const prefix = /^failed to solve: /;

/** A failure of one of a build's calls, as the failure of the build. What is no answer of the daemon stays as it is. */
export function buildErrorOf(thrown: unknown): unknown {
  if (!(thrown instanceof ConnectError)) {
    return thrown;
  }
  if (thrown.cause instanceof ServiceError) {
    // Our own side could not make the call, such as when nobody listens.
    return thrown.cause;
  }
  const meaning = fromConnectError(thrown);
  const reason = meaning instanceof ServiceError ? meaning.reason : "UNKNOWN";
  const message = thrown.rawMessage.replace(prefix, "");
  return new BuildError(reason, message, { cause: thrown, ...errorDetails(statusOfError(thrown)) });
}
