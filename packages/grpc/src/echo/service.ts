import { createFileRegistry, type DescService, fromJson } from "@bufbuild/protobuf";
import type { GenService } from "@bufbuild/protobuf/codegenv2";
import { FileDescriptorSetSchema, type StringValueSchema } from "@bufbuild/protobuf/wkt";

/**
 * A service with one method of each kind, for tests alone: no service that we serve for real has a client-streaming
 * method. Its messages are google.protobuf.StringValue.
 */
type Text = typeof StringValueSchema;
export const Echo = describeEcho() as GenService<{
  one: { methodKind: "unary"; input: Text; output: Text };
  count: { methodKind: "server_streaming"; input: Text; output: Text };
  join: { methodKind: "client_streaming"; input: Text; output: Text };
  talk: { methodKind: "bidi_streaming"; input: Text; output: Text };
}>;

function describeEcho(): DescService {
  const text = ".google.protobuf.StringValue";
  const method = (name: string, clientStreaming: boolean, serverStreaming: boolean) => ({
    name,
    inputType: text,
    outputType: text,
    clientStreaming,
    serverStreaming,
  });
  const set = fromJson(FileDescriptorSetSchema, {
    file: [
      {
        name: "google/protobuf/wrappers.proto",
        package: "google.protobuf",
        syntax: "proto3",
        messageType: [
          {
            name: "StringValue",
            field: [
              { name: "value", number: 1, type: "TYPE_STRING", label: "LABEL_OPTIONAL", jsonName: "value" },
            ],
          },
        ],
      },
      {
        name: "echo.proto",
        package: "echo.v1",
        syntax: "proto3",
        dependency: ["google/protobuf/wrappers.proto"],
        service: [
          {
            name: "Echo",
            method: [
              method("One", false, false),
              method("Count", false, true),
              method("Join", true, false),
              method("Talk", true, true),
            ],
          },
        ],
      },
    ],
  });
  const service = createFileRegistry(set).getService("echo.v1.Echo");
  if (service === undefined) {
    throw new Error("echo.v1.Echo is not in its own descriptor");
  }
  return service;
}
