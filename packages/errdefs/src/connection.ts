/** What the codes of Node and OpenSSL mean to an operator. "It" is who is at the other end. */
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
  ERR_SSL_PACKET_LENGTH_TOO_LONG: "it does not speak TLS, or none that we do",
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: "it does not take our certificate",
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: "it does not take our certificate, which has expired",
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: "it does not take how we speak TLS, or that we have no certificate",
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: "it wants a certificate of ours",
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: "it does not trust the authority that has signed our certificate",
  ERR_SSL_WRONG_VERSION_NUMBER: "it does not speak TLS, or none that we do",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name",
  HPE_HEADER_OVERFLOW: "the headers of its answer are too long",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate is signed by an authority that is not trusted",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "its certificate is signed by an authority that is not trusted",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate is signed by an authority that is not trusted",
};

/**
 * The code of an error of a socket; empty if it has none. Node puts those of several addresses of one name into an
 * AggregateError.
 */
export function connectionCodeOf(thrown: unknown): string {
  const first: unknown = thrown instanceof AggregateError ? (thrown.errors[0] ?? thrown) : thrown;
  return first instanceof Error && "code" in first ? String(first.code) : "";
}

/** What an error of a socket means, for a sentence that names who is at the other end: its own words where we have none. */
export function explainConnectionError(thrown: unknown): string {
  const code = connectionCodeOf(thrown);
  const known = explanations[code];
  if (known !== undefined) {
    return `${known} (${code})`;
  }
  const first: unknown = thrown instanceof AggregateError ? (thrown.errors[0] ?? thrown) : thrown;
  return first instanceof Error ? first.message : String(first);
}
