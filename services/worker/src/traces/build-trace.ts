import type { ProgressEvent } from "../solver/progress.ts";
import { buildSpans } from "./build-spans.ts";
import type { TraceRecorder, TraceRecording } from "./recorder.ts";
import { beginSpan, type TraceContext } from "./trace-context.ts";

/** A build whose trace begins with it. */
export interface BuildBeginning {
  readonly ref: string;
  /** What the client's call is a part of; undefined if it has not said. */
  readonly parent: TraceContext | undefined;
  /** Whether the build's trace is to be kept. */
  readonly isKept: boolean;
}

/** The trace of one build, in so far as the worker makes it. */
export class BuildTrace {
  /** Of the build's own span, which everything that is done for it is a part of. */
  readonly context: TraceContext;
  readonly #recorder: TraceRecorder;
  readonly #beginning: BuildBeginning;
  readonly #recording: TraceRecording | undefined;
  readonly #startedAtMs = Date.now();

  constructor(recorder: TraceRecorder, beginning: BuildBeginning) {
    this.#recorder = recorder;
    this.#beginning = beginning;
    this.context = beginSpan(beginning.parent);
    const isRecorded = beginning.isKept && this.context.isSampled;
    this.#recording = isRecorded ? recorder.record(this.context.traceID) : undefined;
  }

  /**
   * The build has ended.
   *
   * @returns its trace, which what others have still to tell of it goes on to come to; undefined if it is not kept.
   */
  end(events: readonly ProgressEvent[], error: string | undefined): TraceRecording | undefined {
    const { ref, parent } = this.#beginning;
    const { forwarder, resource } = this.#recorder;
    const passesOn = forwarder !== undefined && this.context.isSampled;
    if (this.#recording === undefined && !passesOn) {
      return undefined;
    }
    const spans = buildSpans({
      ref,
      parent,
      trace: this.context,
      startedAtMs: this.#startedAtMs,
      endedAtMs: Date.now(),
      error,
      events,
      resource,
    });
    if (passesOn) {
      forwarder.add(spans);
    }
    this.#recording?.add(spans);
    return this.#recording;
  }
}
