import { formatTraceParent, type TraceContext } from "../traces/trace-context.ts";

/** Who wants the spans of a step. */
export interface StepTracing {
  /** On the host. */
  readonly socketPath: string;
  /** What the step is a part of; undefined if that is not known. */
  readonly parent: TraceContext | undefined;
}

/** Where the processes of a step find who wants their spans; upstream's place. */
export const stepTraceSocket = "/dev/otel-grpc.sock";

/** How OpenTelemetry's exporters are told so (specification, "OpenTelemetry Protocol Exporter"). */
const exporterVariables = [
  "OTEL_TRACES_EXPORTER=otlp",
  `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=unix://${stepTraceSocket}`,
  "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
];

/**
 * What a step's processes are told so that their spans come into the build's trace. What the build has set itself stays: it
 * may not want to be traced (`OTEL_TRACES_EXPORTER=none`).
 */
export function withTracing(env: readonly string[], { parent }: StepTracing): string[] {
  const set = new Set(env.map(nameOf));
  const variables = [...exporterVariables, ...parentVariables(parent)];
  return [...env, ...variables.filter((variable) => !set.has(nameOf(variable)))];
}

/** As programs take it that do not get their place in a trace in a header. */
function parentVariables(trace: TraceContext | undefined): string[] {
  if (trace === undefined) {
    return [];
  }
  const { state } = trace;
  return [`TRACEPARENT=${formatTraceParent(trace)}`, ...(state === "" ? [] : [`TRACESTATE=${state}`])];
}

function nameOf(variable: string): string {
  return variable.split("=", 1)[0] ?? "";
}
