import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { SpanSchema } from "@oci-worker/api/opentelemetry/trace";
import {
  type ExportTraceServiceRequest,
  ExportTraceServiceRequestSchema,
} from "@oci-worker/api/opentelemetry/trace-service";

export const sampleTraceID = "4bf92f3577b34da6a3ce929d0e0e4736";

/** What a client sends of `spans`, which are of the sample trace unless they say otherwise. */
export function requestOf(
  ...spans: readonly MessageInitShape<typeof SpanSchema>[]
): ExportTraceServiceRequest {
  const whole = spans.map((span) =>
    create(SpanSchema, {
      traceId: Buffer.from(sampleTraceID, "hex"),
      spanId: Buffer.from("00f067aa0ba902b7", "hex"),
      ...span,
    }),
  );
  return create(ExportTraceServiceRequestSchema, { resourceSpans: [{ scopeSpans: [{ spans: whole }] }] });
}
