import { create } from "@bufbuild/protobuf";
import { type KeyValue, KeyValueSchema } from "@oci-worker/api/opentelemetry/attributes";
import type { Resource } from "@oci-worker/api/opentelemetry/resource";
import {
  type ResourceSpans,
  ResourceSpansSchema,
  type Span,
  Span_SpanKind,
  SpanSchema,
  Status_StatusCode,
} from "@oci-worker/api/opentelemetry/trace";
import { version } from "@oci-worker/daemon/version";
import type { ProgressEvent, RowState, VertexState } from "../solver/progress.ts";
import { serviceName } from "./resource.ts";
import { rowSpanID, vertexSpanID } from "./span-ids.ts";
import type { TraceContext } from "./trace-context.ts";

/** A build that has ended, and where it stands in its trace. */
export interface TracedBuild {
  readonly ref: string;
  /** Of the client's call; undefined if that belongs to no trace. */
  readonly parent: TraceContext | undefined;
  /** Of the build itself. */
  readonly trace: TraceContext;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** Why it failed; undefined if it did not. */
  readonly error: string | undefined;
  readonly events: readonly ProgressEvent[];
  /** Of the worker. */
  readonly resource: Resource;
}

/**
 * What the worker has done for a build, as spans: one for the call, within it one for each time that a vertex was worked
 * on (an export is a vertex, too), and within that one for each transfer.
 *
 * They are made of what the build has reported, so that a trace tells the same as the progress does.
 */
export function buildSpans(build: TracedBuild): ResourceSpans {
  return create(ResourceSpansSchema, {
    resource: build.resource,
    scopeSpans: [{ scope: { name: serviceName, version }, spans: [callSpan(build), ...workSpans(build)] }],
  });
}

function callSpan({ ref, parent, trace, startedAtMs, endedAtMs, error }: TracedBuild): Span {
  return spanOf(trace, {
    id: trace.spanID,
    parentID: parent?.spanID ?? "",
    // As gRPC's instrumentation names a call (semantic conventions of RPC).
    name: "moby.buildkit.v1.Control/Solve",
    kind: Span_SpanKind.SERVER,
    startedAtMs,
    endedAtMs,
    error,
    attributes: {
      "rpc.system": "grpc",
      "rpc.service": "moby.buildkit.v1.Control",
      "rpc.method": "Solve",
      "build.ref": ref,
    },
  });
}

function workSpans({ trace, endedAtMs, events }: TracedBuild): Span[] {
  // By the ids of the spans: of what is told several times of the same, the last holds.
  const vertices = new Map<string, VertexState>();
  const rows = new Map<string, { readonly row: RowState; readonly parentID: string }>();
  /** The span of what each vertex is at. */
  const current = new Map<string, string>();
  for (const event of events) {
    if (event.kind === "vertex" && event.vertex.startedAt !== undefined) {
      const id = vertexSpanID(event.vertex.digest, event.vertex.startedAt);
      vertices.set(id, event.vertex);
      current.set(event.vertex.digest, id);
    } else if (event.kind === "row") {
      const { row } = event;
      const id = rowSpanID(row.vertex, row.id, row.startedAt);
      rows.set(id, { row, parentID: rows.get(id)?.parentID ?? current.get(row.vertex) ?? trace.spanID });
    }
  }
  return [
    ...vertices.entries().map(([id, vertex]) => vertexSpan(trace, id, vertex, endedAtMs)),
    ...rows.entries().map(([id, { row, parentID }]) => rowSpan(trace, id, parentID, row)),
  ];
}

function vertexSpan(trace: TraceContext, id: string, vertex: VertexState, endedAtMs: number): Span {
  const { digest, name, cached, startedAt, completedAt, error } = vertex;
  return spanOf(trace, {
    id,
    parentID: trace.spanID,
    name,
    kind: Span_SpanKind.INTERNAL,
    startedAtMs: startedAt?.getTime() ?? endedAtMs,
    endedAtMs: completedAt?.getTime() ?? endedAtMs,
    error: error === "" ? undefined : error,
    attributes: { vertex: digest, cached },
  });
}

function rowSpan(trace: TraceContext, id: string, parentID: string, row: RowState): Span {
  const { vertex, name, current, startedAt, completedAt, timestamp } = row;
  return spanOf(trace, {
    id,
    parentID,
    name,
    kind: Span_SpanKind.INTERNAL,
    startedAtMs: startedAt.getTime(),
    endedAtMs: (completedAt ?? timestamp).getTime(),
    error: undefined,
    attributes: { vertex, current },
  });
}

interface Work {
  readonly id: string;
  /** Empty for the first span of a trace. */
  readonly parentID: string;
  readonly name: string;
  readonly kind: Span_SpanKind;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  readonly error: string | undefined;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
}

function spanOf({ traceID, isSampled, state }: TraceContext, work: Work): Span {
  return create(SpanSchema, {
    traceId: Buffer.from(traceID, "hex"),
    spanId: Buffer.from(work.id, "hex"),
    parentSpanId: Buffer.from(work.parentID, "hex"),
    traceState: state,
    flags: Number(isSampled),
    name: work.name,
    kind: work.kind,
    startTimeUnixNano: nanos(work.startedAtMs),
    endTimeUnixNano: nanos(work.endedAtMs),
    attributes: attributes(work.attributes),
    ...(work.error !== undefined && { status: { code: Status_StatusCode.ERROR, message: work.error } }),
  });
}

function attributes(values: Work["attributes"]): KeyValue[] {
  return Object.entries(values).map(([key, value]) =>
    create(KeyValueSchema, { key, value: anyValue(value) }),
  );
}

function anyValue(value: string | number | boolean) {
  if (typeof value === "string") {
    return { value: { case: "stringValue", value } } as const;
  }
  return typeof value === "number"
    ? ({ value: { case: "intValue", value: BigInt(value) } } as const)
    : ({ value: { case: "boolValue", value } } as const);
}

function nanos(ms: number): bigint {
  return BigInt(Math.trunc(ms)) * 1_000_000n;
}
