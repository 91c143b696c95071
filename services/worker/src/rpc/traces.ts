import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { TraceService } from "@oci-worker/api/opentelemetry/trace-service";
import { metadataValues } from "@oci-worker/grpc/call";
import type { TraceRecorder } from "../traces/recorder.ts";
import { parseTraceParent, type TraceContext } from "../traces/trace-context.ts";

/** Serves opentelemetry.proto.collector.trace.v1.TraceService: clients and steps tell what they have done for a build. */
export function tracesService(recorder: TraceRecorder): ServiceImpl<typeof TraceService> {
  return {
    export: (request) => {
      const { rejected, why } = recorder.take(request);
      return rejected === 0
        ? {}
        : { partialSuccess: { rejectedSpans: BigInt(rejected), errorMessage: `Cannot keep spans: ${why}` } };
    },
  };
}

/** What the call is a part of; undefined if its client has not said. */
export function callerOf(context: HandlerContext): TraceContext | undefined {
  const [parent = ""] = metadataValues(context, "traceparent");
  return parseTraceParent(parent, metadataValues(context, "tracestate").join(","));
}
