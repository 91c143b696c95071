import type { Resource } from "@oci-worker/api/opentelemetry/resource";
import type { ResourceSpans, Span } from "@oci-worker/api/opentelemetry/trace";
import type { ExportTraceServiceRequest } from "@oci-worker/api/opentelemetry/trace-service";
import { ownResource } from "./resource.ts";
import { spanText } from "./span-text.ts";
import { type Spans, WaitingSpans } from "./waiting-spans.ts";

/** What may be kept, so that nobody fills the worker with spans: a number of them, and the sum of their lengths as text. */
export interface SpanLimits {
  readonly spans: number;
  readonly characters: number;
}

/** Of one trace that is recorded. A large build of buildx, the client's spans included, has some hundreds in half a megabyte. */
const traceLimits: SpanLimits = { spans: 10_000, characters: 16 * 1024 * 1024 };

/** Of a trace that is being recorded. */
interface RecordedSpans extends Spans {
  /** Those that were not taken, for want of room. */
  dropped: number;
  /** How many record it. */
  recordings: number;
}

/** A trace that is being recorded for one build. Disposing ends it. */
export interface TraceRecording extends Disposable {
  /** Adds what the worker itself has done. It is never dropped: a build has no more of it than it has steps. */
  add(spans: ResourceSpans): void;
  /** What has come so far, a line for each span; empty if nothing has. */
  text(): string;
  /** Spans that were not kept, because there were too many. */
  readonly dropped: number;
}

/** What has become of spans that somebody has sent. */
export interface Taken {
  readonly rejected: number;
  /** For people; empty if nothing is rejected. */
  readonly why: string;
}

export interface RecorderOptions {
  readonly limits?: SpanLimits;
  /** Whose the worker's own spans are. */
  readonly resource?: Resource;
  /** Gets all spans, kept or not; absent: nobody does. */
  readonly forwarder?: SpanReceiver;
}

export interface SpanReceiver {
  add(spans: ResourceSpans): void;
}

/** Keeps the spans of traces that a build belongs to, until the build's record has them. */
export class TraceRecorder {
  readonly #recorded = new Map<string, RecordedSpans>();
  readonly #waiting = new WaitingSpans();
  readonly #limits: SpanLimits;
  readonly resource: Resource;
  readonly forwarder: SpanReceiver | undefined;

  constructor({ limits = traceLimits, resource = ownResource(), forwarder }: RecorderOptions = {}) {
    this.#limits = limits;
    this.resource = resource;
    this.forwarder = forwarder;
  }

  /** Records the trace `traceID`, from what of it has come within the last minute on. */
  record(traceID: string): TraceRecording {
    const spans = this.#recorded.get(traceID) ?? {
      ...this.#waiting.take(traceID),
      dropped: 0,
      recordings: 0,
    };
    this.#recorded.set(traceID, spans);
    spans.recordings += 1;
    const own: string[] = [];
    let hasEnded = false;
    return {
      add: (resourceSpans) => own.push(...textsOf(resourceSpans).map(([, text]) => text)),
      text: () => [...spans.texts, ...own].map((text) => `${text}\n`).join(""),
      get dropped() {
        return spans.dropped;
      },
      [Symbol.dispose]: () => {
        if (!hasEnded) {
          hasEnded = true;
          spans.recordings -= 1;
          if (spans.recordings === 0) {
            this.#recorded.delete(traceID);
          }
        }
      },
    };
  }

  /** Takes the spans that a client, or a step, has sent. */
  take({ resourceSpans }: ExportTraceServiceRequest): Taken {
    let unnamed = 0;
    let dropped = 0;
    for (const all of resourceSpans) {
      const spans = namedOf(all);
      unnamed += countOf(all) - countOf(spans);
      this.forwarder?.add(spans);
      for (const [span, text] of textsOf(spans)) {
        if (!this.#keep(Buffer.from(span.traceId).toString("hex"), text)) {
          dropped += 1;
        }
      }
    }
    const { spans, characters } = this.#limits;
    const reasons = [
      ...(unnamed > 0 ? [`${unnamed} without the ids of trace and span, want 16 and 8 bytes`] : []),
      ...(dropped > 0
        ? [`${dropped} too many, want at most ${spans} spans and ${characters} bytes for a trace`]
        : []),
    ];
    return { rejected: unnamed + dropped, why: reasons.join("; ") };
  }

  #keep(traceID: string, text: string): boolean {
    const spans = this.#recorded.get(traceID);
    if (spans === undefined) {
      this.#waiting.add(traceID, text);
      return true;
    }
    if (
      spans.texts.length >= this.#limits.spans ||
      spans.characters + text.length > this.#limits.characters
    ) {
      spans.dropped += 1;
      return false;
    }
    spans.texts.push(text);
    spans.characters += text.length;
    return true;
  }
}

function textsOf({ resource, scopeSpans }: ResourceSpans): [Span, string][] {
  return scopeSpans.flatMap(({ scope, spans }) =>
    spans.map((span): [Span, string] => [span, spanText(span, resource, scope)]),
  );
}

function countOf({ scopeSpans }: ResourceSpans): number {
  return scopeSpans.reduce((sum, { spans }) => sum + spans.length, 0);
}

function namedOf(all: ResourceSpans): ResourceSpans {
  return {
    ...all,
    scopeSpans: all.scopeSpans.map((each) => ({ ...each, spans: each.spans.filter(isNamed) })),
  };
}

function isNamed({ traceId, spanId }: Span): boolean {
  const isID = (bytes: Uint8Array, length: number) =>
    bytes.length === length && bytes.some((byte) => byte !== 0);
  return isID(traceId, 16) && isID(spanId, 8);
}
