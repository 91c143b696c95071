import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import { type Status, StatusSchema } from "@oci-worker/api/google/status";

/** Trailer with a base64 google.rpc.Status. */
const detailsTrailer = "grpc-status-details-bin";

/**
 * Types of BuildKit's error details. Their values are JSON, and nothing stands before the name as Any would have it
 * (solver/errdefs, frontend/gateway/pb/exit.go).
 */
const vertexType = "github.com/moby/buildkit/errdefs.Vertex+json";
const exitType = "github.com/moby/buildkit/gatewayapi.ExitMessage+json";

/** Of several steps that an error has come through the one that failed is told first or last; more are not looked at. */
const maxDetails = 100;

export interface ErrorDetails {
  /** Digest of the step that failed. */
  readonly vertex: string | undefined;
  /** Exit code of its process. */
  readonly exitCode: number | undefined;
}

/** The status that a call ended with, its details included. */
export function statusOfError(error: ConnectError): Status | undefined {
  const header = error.metadata.get(detailsTrailer);
  if (header === null) {
    return undefined;
  }
  try {
    return fromBinary(StatusSchema, Buffer.from(header, "base64"));
  } catch {
    // Details are an addition: code and message of the error stand without them.
    return undefined;
  }
}

/** What BuildKit says in the details of an error. Whatever is not as it should be counts as not said. */
export function errorDetails(status: Status | undefined): ErrorDetails {
  const details = status?.details.slice(0, maxDetails) ?? [];
  const vertex = details.findLast(({ typeUrl }) => typeUrl === vertexType);
  const exit = details.findLast(({ typeUrl }) => typeUrl === exitType);
  const digest = vertex && fieldOf(vertex, "digest");
  const code = exit && fieldOf(exit, "Code");
  return {
    vertex: typeof digest === "string" ? digest : undefined,
    exitCode: typeof code === "number" && Number.isInteger(code) ? code : undefined,
  };
}

function fieldOf({ value }: Any, name: string): unknown {
  try {
    const object: unknown = JSON.parse(Buffer.from(value).toString());
    return typeof object === "object" && object !== null ? Reflect.get(object, name) : undefined;
  } catch {
    // No JSON, so nothing is said.
    return undefined;
  }
}
