import { create, toBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { type Status, StatusSchema } from "@oci-worker/api/google/status";
import { statusOf } from "@oci-worker/errdefs/connect";
import { ExitError, VertexError } from "../solver/failure.ts";

/** Type URLs of BuildKit's error details. Their values are JSON, not protobuf. */
const vertexDetail = "github.com/moby/buildkit/errdefs.Vertex+json";
const exitDetail = "github.com/moby/buildkit/gatewayapi.ExitMessage+json";

/**
 * The error of a build as BuildKit's clients understand it: which vertex has failed and with which exit code, as
 * details that only they can read. Other errors are passed on as they are.
 */
export function buildError(thrown: unknown): unknown {
  if (!(thrown instanceof VertexError)) {
    return thrown;
  }
  const status = buildStatus(thrown);
  const details = Buffer.from(toBinary(StatusSchema, status)).toString("base64").replace(/=+$/, "");
  const metadata = { "grpc-status-details-bin": details };
  return new ConnectError(status.message, status.code, metadata, undefined, thrown);
}

/** All that clients are told of the failure of a build, as a blob. */
export function encodeError(thrown: unknown): Uint8Array {
  return toBinary(StatusSchema, buildStatus(thrown));
}

/** How a process has failed that a client has started itself. */
export function processStatus(failure: Error): Status {
  const { code, message } = statusOf(failure);
  const details = failure instanceof ExitError ? [detail(exitDetail, { Code: failure.exitCode })] : [];
  return create(StatusSchema, { code, message, details });
}

function buildStatus(thrown: unknown): Status {
  const { code, message } = statusOf(thrown);
  if (!(thrown instanceof VertexError)) {
    return create(StatusSchema, { code, message });
  }
  const details = [detail(vertexDetail, { digest: thrown.vertex })];
  if (thrown.cause instanceof ExitError) {
    details.push(detail(exitDetail, { Code: thrown.cause.exitCode }));
  }
  return create(StatusSchema, { code, message, details });
}

function detail(typeUrl: string, value: object) {
  return { typeUrl, value: Buffer.from(JSON.stringify(value)) };
}
