import type { TlsSettings } from "../host.ts";

/** Content to send. It can be opened anew, because a request is sent again after a 401 or a broken connection. */
export interface RequestBody {
  readonly sizeBytes: number;
  open(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** A part of it; absent for one that can only be read from its beginning. */
  openPart?(offset: number, sizeBytes: number): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export type Headers = Readonly<Record<string, string | readonly string[]>>;

export interface HttpRequest {
  readonly method: "GET" | "HEAD" | "PATCH" | "POST" | "PUT";
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
  return {
    sizeBytes: bytes.length,
    open: () => [bytes],
    openPart: (offset, sizeBytes) => [bytes.subarray(offset, offset + sizeBytes)],
  };
}

/** The `sizeBytes` from `offset` on of `body`, as one of its own. */
export function partOf(body: RequestBody, offset: number, sizeBytes: number): RequestBody {
  const open = () => body.openPart?.(offset, sizeBytes) ?? cut(body.open(), offset, sizeBytes);
  return { sizeBytes, open };
}

async function* cut(
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  offset: number,
  sizeBytes: number,
): AsyncGenerator<Uint8Array> {
  let at = 0;
  for await (const piece of pieces) {
    const part = piece.subarray(Math.max(0, offset - at), Math.max(0, offset + sizeBytes - at));
    at += piece.length;
    if (part.length > 0) {
      yield part;
    }
    if (at >= offset + sizeBytes) {
      return;
    }
  }
}
