import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { StatusSchema } from "@oci-worker/api/google/status";

/** The failure of a step as BuildKit tells it: what it says for people in the message, the rest as JSON in details. */
export function failedStep(message: string, vertex: string, exitCode?: number): ConnectError {
  const json = (typeUrl: string, value: object) => ({
    typeUrl: `github.com/moby/buildkit/${typeUrl}+json`,
    value: Buffer.from(JSON.stringify(value)),
  });
  const details = [
    json("stack.Stack", { frames: [] }),
    json("errdefs.Vertex", { digest: vertex }),
    ...(exitCode === undefined ? [] : [json("gatewayapi.ExitMessage", { Code: exitCode })]),
  ];
  const status = create(StatusSchema, { code: Code.Unknown, message, details });
  const trailer = Buffer.from(toBinary(StatusSchema, status)).toString("base64");
  return new ConnectError(message, Code.Unknown, { "grpc-status-details-bin": trailer });
}
