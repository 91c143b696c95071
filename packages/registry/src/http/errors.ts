import { FailedPreconditionError, ServiceError, UnavailableError } from "@oci-worker/errdefs";
import { connectionCodeOf, explainConnectionError } from "@oci-worker/errdefs/connection";

/** A failure that may pass when the same is tried again a little later. */
export class TransientError extends UnavailableError {
  /** How long the server asks us to wait; undefined if it does not say. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, options?: ErrorOptions & { readonly retryAfterMs?: number }) {
    super(message, options);
    this.retryAfterMs = options?.retryAfterMs;
  }
}

/** A host does not speak TLS. Where it may be spoken to without, what it says then tells more. */
export class NoTlsError extends FailedPreconditionError {}

/** A limit of our own has passed. */
export class TimeLimitError extends Error {
  readonly code = "ETIMEDOUT";
}

/** Connections that broke, or were cut off by our own limits: the next one may do better. */
const transient: ReadonlySet<string> = new Set([
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNRESET",
  "EPIPE",
  "ERR_PROXY_TUNNEL",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ETIMEDOUT",
  "HPE_INVALID_EOF_STATE",
]);

/** Codes that are about the configuration of TLS, so that waiting does not help. */
const tlsCode = /CERT|SSL|TLS|SIGNATURE|EPROTO/;

/**
 * The error for an exchange that failed below HTTP.
 *
 * @param attempt what could not be done and with whom, such as "Cannot fetch blob sha256:… from registry.example".
 */
export function exchangeError(attempt: string, cause: unknown): ServiceError {
  if (cause instanceof ServiceError) {
    // From whoever gives the body of the request, or a TLS file.
    return cause;
  }
  const code = connectionCodeOf(cause);
  const message = `${attempt}: ${explainConnectionError(cause)}`;
  if (transient.has(code)) {
    return new TransientError(message, { cause });
  }
  if (code === "EPROTO") {
    return new NoTlsError(message, { cause });
  }
  return tlsCode.test(code)
    ? new FailedPreconditionError(message, { cause })
    : new UnavailableError(message, { cause });
}
