import { FailedPreconditionError, ServiceError, UnavailableError } from "@oci-worker/errdefs";

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

/** What the codes of Node and OpenSSL mean to an operator. */
const explanations: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "its certificate has expired",
  CERT_NOT_YET_VALID: "its certificate is not valid yet",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is self-signed and not trusted",
  EAI_AGAIN: "its name cannot be looked up at the moment",
  ECONNREFUSED: "it refuses connections",
  ECONNRESET: "the connection broke",
  ENOTFOUND: "its name is not known",
  EPROTO: "it does not speak TLS, or none that we do",
  EPIPE: "the connection broke",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name",
  HPE_HEADER_OVERFLOW: "the headers of its answer are too long",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is signed by an authority that is not trusted",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is signed by an authority that is not trusted",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate is signed by an authority that is not trusted",
};

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
  const code = codeOf(cause);
  const reason = explanations[code] ?? describe(cause);
  const message = code in explanations ? `${attempt}: ${reason} (${code})` : `${attempt}: ${reason}`;
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

/** Node puts the codes of several failed addresses into an AggregateError. */
function codeOf(cause: unknown): string {
  const first = cause instanceof AggregateError ? (cause.errors[0] ?? cause) : cause;
  return first instanceof Error && "code" in first ? String(first.code) : "";
}

function describe(cause: unknown): string {
  const first: unknown = cause instanceof AggregateError ? cause.errors[0] : cause;
  return first instanceof Error ? first.message : String(first);
}
