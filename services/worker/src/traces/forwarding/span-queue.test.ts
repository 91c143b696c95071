import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ResourceSpans } from "@oci-worker/api/opentelemetry/trace";
import { requestOf } from "../sample-span.ts";
import { type SpanBatch, SpanQueue } from "./span-queue.ts";

/** Spans of one program by these names. */
function spansNamed(...names: readonly string[]): ResourceSpans {
  const [spans] = requestOf(...names.map((name) => ({ name }))).resourceSpans;
  return spans ?? assert.fail("there are none");
}

/** By program. */
function namesIn(batch: SpanBatch | undefined): string[][] {
  return (batch?.request.resourceSpans ?? []).map(({ scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) => spans.map(({ name }) => name)),
  );
}

describe("a queue of spans", () => {
  test("gives them out in order, in batches, those of one program together", () => {
    const queue = new SpanQueue({ batchSpans: 3, waitingSpans: 100 });
    assert.equal(queue.take(), undefined);
    assert.equal(queue.add(spansNamed("a", "b")), 0);
    assert.equal(queue.hasBatch, false);
    queue.add(spansNamed("c", "d"));
    assert.equal(queue.hasBatch, true);
    assert.deepEqual(namesIn(queue.take()), [["a", "b"], ["c"]]);
    assert.deepEqual(namesIn(queue.take()), [["d"]]);
    assert.equal(queue.take(), undefined);
  });

  test("has room for so many, and lets those go that came first", () => {
    const queue = new SpanQueue({ batchSpans: 10, waitingSpans: 3 });
    assert.equal(queue.add(spansNamed("a", "b")), 0);
    assert.equal(queue.add(spansNamed("c", "d", "e")), 2);
    assert.deepEqual(namesIn(queue.take()), [["c", "d", "e"]]);
  });

  test("has room for so many bytes, and makes no message that is larger than collectors take", () => {
    const queue = new SpanQueue({ batchSpans: 100, waitingSpans: 100 });
    const large = (letter: string) => letter.repeat(1024 * 1024);
    assert.equal(queue.add(spansNamed(..."abcdefghijklmnop".split("").map(large))), 1);
    const first = queue.take();
    assert.equal(first?.spans, 2);
    assert.deepEqual(
      namesIn(first).flatMap((names) => names.map((name) => name[0])),
      ["b", "c"],
    );
    const huge = new SpanQueue({ batchSpans: 100, waitingSpans: 100 });
    huge.add(spansNamed("x".repeat(5 * 1024 * 1024), "y"));
    assert.equal(huge.take()?.spans, 1);
  });
});
