import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf } from "@oci-worker/oci/digest";
import type { ProgressEvent, VertexState } from "../solver/progress.ts";
import { VertexReport } from "../solver/vertex-report.ts";
import { buildSpans } from "./build-spans.ts";
import { ownResource } from "./resource.ts";
import { spanText } from "./span-text.ts";
import { beginSpan } from "./trace-context.ts";

const parent = beginSpan();
const trace = beginSpan(parent);

/** Spans of a build that has reported `events`, as clients read them. */
function spansOf(events: readonly ProgressEvent[], error?: string) {
  const { resource, scopeSpans } = buildSpans({
    ref: "r",
    parent,
    trace,
    startedAtMs: 1000,
    endedAtMs: 9000,
    error,
    events,
    resource: ownResource(),
  });
  return scopeSpans.flatMap(({ scope, spans }) =>
    spans.map((span) => {
      const { Name, SpanContext, Parent, StartTime, EndTime, Status } = JSON.parse(
        spanText(span, resource, scope),
      );
      assert.equal(SpanContext.TraceID, trace.traceID);
      return {
        name: Name,
        id: SpanContext.SpanID,
        parent: Parent.SpanID,
        seconds: [StartTime, EndTime].map((time) => Date.parse(time) / 1000),
        error: Status.Description,
      };
    }),
  );
}

function vertex(more: Partial<VertexState>): ProgressEvent {
  const state = { digest: digestOf("v"), inputs: [], name: "v", cached: false, error: "" };
  return { kind: "vertex", vertex: { ...state, startedAt: undefined, completedAt: undefined, ...more } };
}

const at = (seconds: number) => new Date(seconds * 1000);

test("a build is a span within its client's, and each time that a vertex is worked on is one within that", () => {
  const [build, first, second, ...rest] = spansOf([
    vertex({}),
    vertex({ startedAt: at(2) }),
    vertex({ startedAt: at(2), completedAt: at(3) }),
    vertex({ startedAt: at(5) }),
    vertex({ startedAt: at(5), completedAt: at(7), error: "why" }),
    vertex({ digest: digestOf("never"), name: "never begun" }),
  ]);
  const name = "moby.buildkit.v1.Control/Solve";
  assert.deepEqual(build, { name, id: trace.spanID, parent: parent.spanID, seconds: [1, 9], error: "" });
  assert.deepEqual(first, { name: "v", id: first?.id, parent: trace.spanID, seconds: [2, 3], error: "" });
  assert.deepEqual(second, {
    name: "v",
    id: second?.id,
    parent: trace.spanID,
    seconds: [5, 7],
    error: "why",
  });
  assert.notEqual(first?.id, second?.id);
  assert.deepEqual(rest, []);
});

test("transfers are spans within that of their vertex; what has not ended ends with the build", () => {
  const row = { vertex: digestOf("v"), id: "l", name: "layer", current: 5, total: 9, startedAt: at(3) };
  const [, work, transfer, ...rest] = spansOf([
    vertex({ startedAt: at(2) }),
    { kind: "row", row: { ...row, timestamp: at(3), completedAt: undefined } },
    { kind: "row", row: { ...row, timestamp: at(4), completedAt: at(4) } },
  ]);
  assert.deepEqual(work?.seconds, [2, 9]);
  assert.deepEqual(transfer, {
    name: "layer",
    id: transfer?.id,
    parent: work?.id,
    seconds: [3, 4],
    error: "",
  });
  assert.deepEqual(rest, []);
  assert.equal(spansOf([], "why")[0]?.error, "why");
});

test("the span of a vertex is the one that its step was told", () => {
  const events: ProgressEvent[] = [];
  const report = new VertexReport({ digest: digestOf("v"), inputs: [], name: "v" });
  report.subscribe((event) => events.push(event));
  assert.equal(report.within(trace).spanID, trace.spanID, "nothing has begun");
  report.begin();
  const told = report.within(trace);
  assert.deepEqual({ ...told, spanID: trace.spanID }, trace);
  report.complete();
  assert.equal(spansOf(events)[1]?.id, told.spanID);
});
