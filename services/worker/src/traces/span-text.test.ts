import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type AnyValueSchema,
  InstrumentationScopeSchema,
  KeyValueSchema,
} from "@oci-worker/api/opentelemetry/attributes";
import { ResourceSchema } from "@oci-worker/api/opentelemetry/resource";
import { Span_SpanKind, SpanSchema, Status_StatusCode } from "@oci-worker/api/opentelemetry/trace";
import { spanText } from "./span-text.ts";

type Value = MessageInitShape<typeof AnyValueSchema>;

const text = (value: string): Value => ({ value: { case: "stringValue", value } });
const whole = (value: bigint): Value => ({ value: { case: "intValue", value } });
const list = (...values: Value[]): Value => ({ value: { case: "arrayValue", value: { values } } });
const attribute = (key: string, value: Value) => create(KeyValueSchema, { key, value });
const bytes = (hex: string) => Buffer.from(hex, "hex");

const traceID = "0555ce1903feb85770d102846273073b";
const context = (SpanID: string, TraceID = traceID, TraceFlags = "00") => ({
  TraceID,
  SpanID,
  TraceFlags,
  TraceState: "",
  Remote: false,
});

test("a span is written as the Go SDK writes it, which is what clients of BuildKit read", () => {
  const span = create(SpanSchema, {
    traceId: bytes(traceID),
    spanId: bytes("f5f33ab2ca194d1b"),
    parentSpanId: bytes("c1b335eeeaf56405"),
    flags: 0x301,
    name: "moby.buildkit.v1.Control/ListWorkers",
    kind: Span_SpanKind.CLIENT,
    startTimeUnixNano: 1_705_071_460_147_265_775n,
    endTimeUnixNano: 1_705_071_460_164_000_009n,
    attributes: [attribute("rpc.system", text("grpc")), attribute("rpc.grpc.status_code", whole(0n))],
    events: [
      {
        name: "message",
        timeUnixNano: 1_705_071_460_000_000_000n,
        attributes: [attribute("message.type", text("SENT"))],
        droppedAttributesCount: 2,
      },
    ],
    links: [{ traceId: bytes(traceID), spanId: bytes("1f64b377d3d03600") }],
    status: { code: Status_StatusCode.OK },
    droppedEventsCount: 3,
  });
  const resource = create(ResourceSchema, { attributes: [attribute("service.name", text("buildx"))] });
  const scope = create(InstrumentationScopeSchema, { name: "otelgrpc", version: "0.40.0" });
  const line = spanText(span, resource, scope);
  assert(!line.includes("\n"));
  assert.deepEqual(JSON.parse(line), {
    Name: "moby.buildkit.v1.Control/ListWorkers",
    SpanContext: context("f5f33ab2ca194d1b", traceID, "01"),
    Parent: context("c1b335eeeaf56405"),
    SpanKind: 3,
    StartTime: "2024-01-12T14:57:40.147265775Z",
    EndTime: "2024-01-12T14:57:40.164000009Z",
    Attributes: [
      { Key: "rpc.system", Value: { Type: "STRING", Value: "grpc" } },
      { Key: "rpc.grpc.status_code", Value: { Type: "INT64", Value: 0 } },
    ],
    Events: [
      {
        Name: "message",
        Attributes: [{ Key: "message.type", Value: { Type: "STRING", Value: "SENT" } }],
        DroppedAttributeCount: 2,
        Time: "2024-01-12T14:57:40.000000000Z",
      },
    ],
    Links: [{ SpanContext: context("1f64b377d3d03600"), Attributes: null, DroppedAttributeCount: 0 }],
    Status: { Code: 2, Description: "" },
    DroppedAttributes: 0,
    DroppedEvents: 3,
    DroppedLinks: 0,
    ChildSpanCount: 0,
    Resource: [{ Key: "service.name", Value: { Type: "STRING", Value: "buildx" } }],
    InstrumentationLibrary: { Name: "otelgrpc", Version: "0.40.0", SchemaURL: "" },
  });
});

test("a span of which little is known has every field all the same", () => {
  const span = create(SpanSchema, { traceId: bytes(traceID), spanId: bytes("f5f33ab2ca194d1b") });
  const written = JSON.parse(spanText(span, undefined, undefined));
  assert.deepEqual(written.Parent, context("0".repeat(16), "0".repeat(32)));
  assert.deepEqual(
    [written.Attributes, written.Events, written.Links, written.Resource],
    [null, null, null, null],
  );
  assert.deepEqual(written.Status, { Code: 0, Description: "" });
  assert.equal(written.StartTime, "1970-01-01T00:00:00.000000000Z");
  const failed = create(SpanSchema, {
    endTimeUnixNano: 2n ** 64n - 1n,
    status: { code: Status_StatusCode.ERROR, message: "why" },
  });
  const { EndTime, Status } = JSON.parse(spanText(failed, undefined, undefined));
  assert.equal(EndTime, "2554-07-21T23:34:33.709551615Z");
  assert.deepEqual(Status, { Code: 1, Description: "why" });
});

test("values keep their type, and what Go's attributes cannot be becomes a text", () => {
  const typed = (value: Value) => {
    const span = create(SpanSchema, { attributes: [attribute("key", value)] });
    return /"Value":(\{.*?\})\}\],"Events"/.exec(spanText(span, undefined, undefined))?.[1];
  };
  const map: Value = {
    value: { case: "kvlistValue", value: { values: [{ key: "a", value: list(whole(1n), text("b")) }] } },
  };
  for (const [value, want] of [
    [{ value: { case: "boolValue", value: true } }, '{"Type":"BOOL","Value":true}'],
    [whole(-(2n ** 63n)), '{"Type":"INT64","Value":-9223372036854775808}'],
    [{ value: { case: "doubleValue", value: 0.5 } }, '{"Type":"FLOAT64","Value":0.5}'],
    [{ value: { case: "doubleValue", value: Number.NaN } }, '{"Type":"STRING","Value":"NaN"}'],
    [list(text("a"), text("b")), '{"Type":"STRINGSLICE","Value":["a","b"]}'],
    [list(whole(2n ** 60n)), '{"Type":"INT64SLICE","Value":[1152921504606846976]}'],
    [list(), '{"Type":"STRINGSLICE","Value":[]}'],
    [list(text("a"), whole(1n)), '{"Type":"STRING","Value":"[\\"a\\",1]"}'],
    [list(list(text("a"))), '{"Type":"STRING","Value":"[[\\"a\\"]]"}'],
    [map, '{"Type":"STRING","Value":"{\\"a\\":[1,\\"b\\"]}"}'],
    [{ value: { case: "bytesValue", value: bytes("00ff") } }, '{"Type":"STRING","Value":"\\"AP8=\\""}'],
    [{}, '{"Type":"STRING","Value":""}'],
  ] as const) {
    assert.equal(typed(value), want);
  }
});
