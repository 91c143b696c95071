import { create, toBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { StatusSchema } from "@oci-worker/api/google/status";
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
  const { code, message } = statusOf(thrown);
  const details = [detail(vertexDetail, { digest: thrown.vertex })];
  if (thrown.cause instanceof ExitError) {
    details.push(detail(exitDetail, { Code: thrown.cause.exitCode }));
  }
  const status = toBinary(StatusSchema, create(StatusSchema, { code, message, details }));
  const metadata = { "grpc-status-details-bin": Buffer.from(status).toString("base64").replace(/=+$/, "") };
  return new ConnectError(message, code, metadata, undefined, thrown);
}

function detail(typeUrl: string, value: object) {
  return { typeUrl, value: Buffer.from(JSON.stringify(value)) };
}
