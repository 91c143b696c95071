import type { TlsSettings } from "../host.ts";

/** Content to send. It can be opened anew, because a request is sent again after a 401 or a broken connection. */
export interface RequestBody {
  readonly sizeBytes: number;
  open(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export type Headers = Readonly<Record<string, string | readonly string[]>>;

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "POST" | "PUT";
  readonly url: URL;
  /** What is being done, for errors: "fetch blob sha256:…" is told as "Cannot fetch blob sha256:… from <host>". */
  readonly purpose: string;
  /** Headers for whoever answers in the end. */
  readonly headers?: Headers;
  /** Headers for the origin of {@link url} alone, such as Authorization: they never go along with a redirect. */
  readonly originHeaders?: Headers;
  readonly body?: RequestBody;
  /** For this origin. Another one that a redirect leads to is trusted likewise, but shown no client certificate. */
  readonly tls?: TlsSettings;
  /** A request whose body is a secret must stay with its origin: a redirect elsewhere is then an error. */
  readonly sameOriginOnly?: boolean;
}

/** A body that is in memory. */
export function bytesBody(bytes: Uint8Array): RequestBody {
  return { sizeBytes: bytes.length, open: () => [bytes] };
}
