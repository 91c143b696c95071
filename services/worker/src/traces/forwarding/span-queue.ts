import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import {
  type InstrumentationScope,
  InstrumentationScopeSchema,
} from "@oci-worker/api/opentelemetry/attributes";
import { type Resource, ResourceSchema } from "@oci-worker/api/opentelemetry/resource";
import { type ResourceSpans, type Span, SpanSchema } from "@oci-worker/api/opentelemetry/trace";
import {
  type ExportTraceServiceRequest,
  ExportTraceServiceRequestSchema,
} from "@oci-worker/api/opentelemetry/trace-service";

/** Spans of one program that are to be sent. */
interface Program {
  readonly resource: Resource | undefined;
  readonly scope: InstrumentationScope | undefined;
}

interface WaitingSpan {
  readonly program: Program;
  readonly span: Span;
  /** With what is told of its program, which is kept as long as it. */
  readonly bytes: number;
}

/** A batch on its way. */
export interface SpanBatch {
  readonly request: ExportTraceServiceRequest;
  readonly spans: number;
}

/** Of all that waits. Of a build's spans one has some hundred bytes. */
const maxWaitingBytes = 16 * 1024 * 1024;

/** Collectors take messages of 4 MiB, unless they are told otherwise, as gRPC does. */
const maxBatchBytes = 3 * 1024 * 1024;

/** Spans that wait to be sent. Where there is no room for more, those that came first give way. */
export class SpanQueue {
  readonly #limits: { readonly batchSpans: number; readonly waitingSpans: number };
  #spans: WaitingSpan[] = [];
  #bytes = 0;

  constructor(limits: { readonly batchSpans: number; readonly waitingSpans: number }) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#spans.length;
  }

  get hasBatch(): boolean {
    return this.#spans.length >= this.#limits.batchSpans || this.#bytes >= maxBatchBytes;
  }

  /** @returns how many have given way. */
  add({ resource, scopeSpans }: ResourceSpans): number {
    for (const { scope, spans } of scopeSpans) {
      const program = { resource, scope };
      const programBytes = lengthOf(ResourceSchema, resource) + lengthOf(InstrumentationScopeSchema, scope);
      for (const span of spans) {
        const bytes = programBytes + lengthOf(SpanSchema, span);
        this.#spans.push({ program, span, bytes });
        this.#bytes += bytes;
      }
    }
    return this.#makeRoom();
  }

  /** Takes the next ones out, as many as go into one message; undefined if there are none. */
  take(): SpanBatch | undefined {
    let count = 0;
    let bytes = 0;
    for (const each of this.#spans.slice(0, this.#limits.batchSpans)) {
      if (count > 0 && bytes + each.bytes > maxBatchBytes) {
        break;
      }
      count += 1;
      bytes += each.bytes;
    }
    const batch = this.#spans.splice(0, count);
    this.#bytes -= bytes;
    return batch.length === 0 ? undefined : { request: requestOf(batch), spans: batch.length };
  }

  #makeRoom(): number {
    let count = 0;
    while (this.#spans.length - count > this.#limits.waitingSpans || this.#bytes > maxWaitingBytes) {
      this.#bytes -= this.#spans[count]?.bytes ?? 0;
      count += 1;
    }
    this.#spans.splice(0, count);
    return count;
  }
}

/** Those of one program that follow each other are sent with its name once. */
function requestOf(batch: readonly WaitingSpan[]): ExportTraceServiceRequest {
  const groups: { readonly program: Program; readonly spans: Span[] }[] = [];
  for (const { program, span } of batch) {
    const last = groups.at(-1);
    if (last?.program === program) {
      last.spans.push(span);
    } else {
      groups.push({ program, spans: [span] });
    }
  }
  return create(ExportTraceServiceRequestSchema, {
    resourceSpans: groups.map(({ program: { resource, scope }, spans }) => ({
      ...(resource && { resource }),
      scopeSpans: [{ ...(scope && { scope }), spans }],
    })),
  });
}

function lengthOf<D extends DescMessage>(schema: D, message: MessageShape<D> | undefined): number {
  return message === undefined ? 0 : toBinary(schema, message).length;
}
