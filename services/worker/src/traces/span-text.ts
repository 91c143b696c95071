import type { AnyValue, InstrumentationScope, KeyValue } from "@oci-worker/api/opentelemetry/attributes";
import type { Resource } from "@oci-worker/api/opentelemetry/resource";
import { type Span, Status_StatusCode } from "@oci-worker/api/opentelemetry/trace";

/** A value with its type, as the Go SDK of OpenTelemetry writes it. */
interface TypedValue {
  readonly Type: string;
  readonly Value: unknown;
}

const noTrace = "0".repeat(32);
const noSpan = "0".repeat(16);

/**
 * A span as one line of JSON, in the form in which BuildKit keeps the traces of builds and its clients read them: that of
 * the Go SDK's `SpanStub`.
 */
export function spanText(
  span: Span,
  resource: Resource | undefined,
  scope: InstrumentationScope | undefined,
): string {
  const traceID = hex(span.traceId);
  const parentID = hex(span.parentSpanId);
  return JSON.stringify({
    Name: span.name,
    SpanContext: contextOf(traceID, hex(span.spanId), span.flags, span.traceState),
    Parent: parentID === "" ? contextOf(noTrace, noSpan, 0, "") : contextOf(traceID, parentID, 0, ""),
    SpanKind: span.kind,
    StartTime: timeText(span.startTimeUnixNano),
    EndTime: timeText(span.endTimeUnixNano),
    Attributes: attributesOf(span.attributes),
    Events: orNull(
      span.events.map(({ name, attributes, droppedAttributesCount, timeUnixNano }) => ({
        Name: name,
        Attributes: attributesOf(attributes),
        DroppedAttributeCount: droppedAttributesCount,
        Time: timeText(timeUnixNano),
      })),
    ),
    Links: orNull(
      span.links.map(({ traceId, spanId, flags, traceState, attributes, droppedAttributesCount }) => ({
        SpanContext: contextOf(hex(traceId) || noTrace, hex(spanId) || noSpan, flags, traceState),
        Attributes: attributesOf(attributes),
        DroppedAttributeCount: droppedAttributesCount,
      })),
    ),
    Status: {
      Code: statusCode(span.status?.code),
      Description: span.status?.message ?? "",
    },
    DroppedAttributes: span.droppedAttributesCount,
    DroppedEvents: span.droppedEventsCount,
    DroppedLinks: span.droppedLinksCount,
    ChildSpanCount: 0,
    Resource: attributesOf(resource?.attributes ?? []),
    InstrumentationLibrary: { Name: scope?.name ?? "", Version: scope?.version ?? "", SchemaURL: "" },
  });
}

/** How the Go SDK numbers them, which is not how the protocol does. */
function statusCode(code: Status_StatusCode | undefined): number {
  switch (code) {
    case Status_StatusCode.ERROR:
      return 1;
    case Status_StatusCode.OK:
      return 2;
    default:
      return 0;
  }
}

function contextOf(TraceID: string, SpanID: string, flags: number, TraceState: string) {
  const TraceFlags = (flags & 0xff).toString(16).padStart(2, "0");
  return { TraceID, SpanID, TraceFlags, TraceState, Remote: false };
}

function attributesOf(attributes: readonly KeyValue[]) {
  return orNull(attributes.map(({ key, value }) => ({ Key: key, Value: typedValue(value) })));
}

/** Go writes an empty list as null. */
function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list;
}

function typedValue(value: AnyValue | undefined): TypedValue {
  const { case: kind, value: content } = value?.value ?? { case: undefined };
  switch (kind) {
    case "stringValue":
      return { Type: "STRING", Value: content };
    case "boolValue":
      return { Type: "BOOL", Value: content };
    case "intValue":
      return { Type: "INT64", Value: digits(content) };
    case "doubleValue":
      // JSON has no word for those that are no number.
      return Number.isFinite(content)
        ? { Type: "FLOAT64", Value: content }
        : { Type: "STRING", Value: String(content) };
    case "arrayValue":
      return listOf(content.values);
    case "kvlistValue":
    case "bytesValue":
      return { Type: "STRING", Value: JSON.stringify(plain(value)) };
    case undefined:
      return { Type: "STRING", Value: "" };
  }
}

/** Lists have one type in Go. One of several types becomes a text, as of OpenTelemetry's rules for such formats. */
function listOf(values: readonly AnyValue[]): TypedValue {
  const typed = values.map(typedValue);
  const type = typed[0]?.Type ?? "STRING";
  return typed.every(({ Type }) => Type === type) && !type.endsWith("SLICE")
    ? { Type: `${type}SLICE`, Value: typed.map(({ Value }) => Value) }
    : { Type: "STRING", Value: JSON.stringify(values.map(plain)) };
}

/** The value without its type: a map as an object, bytes in base64. */
function plain(value: AnyValue | undefined): unknown {
  const { case: kind, value: content } = value?.value ?? { case: undefined };
  switch (kind) {
    case "arrayValue":
      return content.values.map(plain);
    case "kvlistValue":
      return Object.fromEntries(content.values.map(({ key, value: each }) => [key, plain(each)]));
    case "bytesValue":
      return Buffer.from(content).toString("base64");
    case "intValue":
      return digits(content);
    default:
      return content ?? null;
  }
}

/** A number that JSON gets digit by digit: 64 bits are more than a JavaScript number has. */
function digits(value: bigint): unknown {
  return (JSON as typeof JSON & { rawJSON(text: string): unknown }).rawJSON(value.toString());
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

const nanosPerMs = 1_000_000n;

/** RFC 3339 with nanoseconds, which a Date does not have. */
function timeText(unixNanos: bigint): string {
  const nanos = String(unixNanos % nanosPerMs).padStart(6, "0");
  return new Date(Number(unixNanos / nanosPerMs)).toISOString().replace("Z", `${nanos}Z`);
}
