import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { failedStep } from "../fake-daemon/failed-step.ts";
import { errorDetails, statusOfError } from "./error-details.ts";

test("details of BuildKit's are read by their bare type names and JSON values", () => {
  const status = statusOfError(failedStep("message", "sha256:v", 7));
  assert.equal(status?.message, "message");
  assert.deepEqual(errorDetails(status), { vertex: "sha256:v", exitCode: 7 });
});

test("an error without details says nothing", () => {
  const status = statusOfError(new ConnectError("x", Code.Unknown));
  assert.deepEqual(errorDetails(status), { vertex: undefined, exitCode: undefined });
});

test("details that are damaged say nothing, and break nothing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const header = Buffer.from(bytes).toString("base64");
      const error = new ConnectError("x", Code.Unknown, { "grpc-status-details-bin": header });
      errorDetails(statusOfError(error));
    }),
  );
  const types = fc.constantFrom("errdefs.Vertex+json", "gatewayapi.ExitMessage+json", "x");
  fc.assert(
    fc.property(fc.array(fc.tuple(types, fc.oneof(fc.json(), fc.string()))), (details) => {
      const anys = details.map(([type, json]) => ({
        $typeName: "google.protobuf.Any" as const,
        typeUrl: `github.com/moby/buildkit/${type}`,
        value: Buffer.from(json),
      }));
      const { vertex, exitCode } = errorDetails({
        $typeName: "google.rpc.Status",
        code: 2,
        message: "",
        details: anys,
      });
      assert(vertex === undefined || typeof vertex === "string");
      assert(exitCode === undefined || Number.isInteger(exitCode));
    }),
  );
});
