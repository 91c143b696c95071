import { constants, type IncomingHttpHeaders } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Status, statusOf } from "@oci-worker/errdefs/connect";

/** Name of the trailer with a base64 google.rpc.Status, which carries error details. */
const detailsTrailer = "grpc-status-details-bin";

/** nghttp2, which many clients have, refuses a header field over 64 KiB and kills the connection: we stay well below. */
const maxMessageChars = 8 * 1024;
const maxTrailerChars = 40 * 1024;

/**
 * The trailers that tell a client of `thrown`: names and values in turns.
 *
 * Details go out as the handler made them: put a ready base64 `grpc-status-details-bin` into the metadata of a
 * `ConnectError`. BuildKit's details have bare type URLs and JSON values, which no library would leave alone.
 */
export function errorTrailers(thrown: unknown): string[] {
  const { code, message } = statusOf(thrown);
  const trailers = ["grpc-status", String(code), "grpc-message", percentEncode(truncate(message))];
  if (thrown instanceof ConnectError) {
    for (const [name, value] of thrown.metadata) {
      if (value.length <= maxTrailerChars && !isReserved(name)) {
        trailers.push(name, value);
      }
    }
  }
  return trailers;
}

/**
 * The error that the trailers of a response hold, or undefined if they say OK.
 *
 * All trailers stay readable in its `metadata`; error details are under `grpc-status-details-bin`.
 */
export function errorFromTrailers(
  trailers: IncomingHttpHeaders,
  metadata: () => Headers,
): ConnectError | undefined {
  const text = trailers["grpc-status"];
  if (text === "0") {
    return undefined;
  }
  if (typeof text !== "string") {
    return new ConnectError("the response ended without a grpc-status", Code.Internal, metadata());
  }
  const code = Number(text);
  const known = Number.isInteger(code) && Code[code] !== undefined;
  const message = trailers["grpc-message"];
  return new ConnectError(
    percentDecode(typeof message === "string" ? message : ""),
    known ? (code as Code) : Code.Unknown,
    metadata(),
  );
}

/** The status of a response that is no gRPC, by the table of grpc/doc/http-grpc-status-mapping.md. */
export function statusOfHttp(httpStatus: number | undefined): Status {
  const message = `the server answered HTTP ${httpStatus ?? "without a status"}, want a gRPC response`;
  switch (httpStatus) {
    case 400:
      return { code: Code.Internal, message };
    case 401:
      return { code: Code.Unauthenticated, message };
    case 403:
      return { code: Code.PermissionDenied, message };
    case 404:
      return { code: Code.Unimplemented, message };
    case 429:
    case 502:
    case 503:
    case 504:
      return { code: Code.Unavailable, message };
    default:
      return { code: Code.Unknown, message };
  }
}

/** The status of a stream that was reset, by the table "Errors" of grpc/doc/PROTOCOL-HTTP2.md. */
export function statusOfReset(rstCode: number): Status {
  switch (rstCode) {
    case constants.NGHTTP2_REFUSED_STREAM:
      return { code: Code.Unavailable, message: "the server refused the stream" };
    case constants.NGHTTP2_CANCEL:
      return { code: Code.Canceled, message: "the server canceled the stream" };
    case constants.NGHTTP2_ENHANCE_YOUR_CALM:
      return { code: Code.ResourceExhausted, message: "the server asks for fewer calls" };
    case constants.NGHTTP2_INADEQUATE_SECURITY:
      return { code: Code.PermissionDenied, message: "the server wants better transport security" };
    default:
      return { code: Code.Internal, message: `the stream was reset with HTTP/2 error ${rstCode}` };
  }
}

/** `grpc-message` encoding: printable ASCII but "%" stays, the rest becomes UTF-8 in %XX. */
function percentEncode(text: string): string {
  return text.toWellFormed().replace(/[^\x20-\x24\x26-\x7e]+/g, encodeURIComponent);
}

/** Undoes {@link percentEncode}; text that is not validly encoded is shown as it came. */
function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function truncate(message: string): string {
  return message.length <= maxMessageChars ? message : `${message.slice(0, maxMessageChars)}… (cut)`;
}

function isReserved(name: string): boolean {
  return name.startsWith("grpc-") && name !== detailsTrailer;
}
