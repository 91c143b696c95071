import type { ExportTraceServiceRequest } from "@oci-worker/api/opentelemetry/trace-service";

/** What has become of a batch. Texts are for people, and hold no header. */
export type SendOutcome =
  | { readonly kind: "taken"; readonly rejected: number; readonly why: string }
  /** It is not to be sent again. */
  | { readonly kind: "refused"; readonly why: string }
  /** It may be later. */
  | { readonly kind: "unreachable"; readonly why: string; readonly retryAfterMs: number };

/** Sends spans to a collector. Disposing closes what connections there are. */
export interface SpanSender extends Disposable {
  /** Sends a batch, once. Never rejects. */
  send(request: ExportTraceServiceRequest, signal: AbortSignal): Promise<SendOutcome>;
}

const maxTextLength = 300;

/** What a collector, or the way to it, has to say, without the values of our headers, which it may have repeated. */
export function withoutHeaders(
  text: string,
  headers: readonly (readonly [name: string, value: string])[],
): string {
  const secrets = headers
    // `Bearer x` is as bad without its first word.
    .flatMap(([, value]) => [value, ...value.split(" ").slice(1)])
    .filter((secret) => secret !== "")
    .toSorted((left, right) => right.length - left.length);
  return secrets.reduce((rest, secret) => rest.replaceAll(secret, "***"), text).slice(0, maxTextLength);
}
