import type { VertexReport } from "../solver/vertex-report.ts";
import type { StepEcho } from "./step-echo.ts";

/** How much of a step's output is passed on; a step in an endless loop must not fill anybody's memory or disk. */
export interface StepLogLimits {
  /** Bytes of each stream; -1 for no limit. */
  readonly maxBytes: number;
  /** Bytes a second of each stream; -1 for no limit. */
  readonly maxBytesPerSecond: number;
}

interface StreamState {
  passedBytes: number;
  clippedBytes: number;
}

/** Passes a step's output on to its vertex, up to the limits, and says at the end if something was left out. */
export class StepLog implements Disposable {
  readonly #report: VertexReport;
  readonly #limits: StepLogLimits;
  readonly #echo: StepEcho | undefined;
  readonly #startedAtMs = performance.now();
  readonly #streams: Record<1 | 2, StreamState> = {
    1: { passedBytes: 0, clippedBytes: 0 },
    2: { passedBytes: 0, clippedBytes: 0 },
  };

  /** @param echo has what is passed on, too. */
  constructor(report: VertexReport, limits: StepLogLimits, echo?: StepEcho) {
    this.#report = report;
    this.#limits = limits;
    this.#echo = echo;
  }

  write(stream: 1 | 2, chunk: Buffer): void {
    const state = this.#streams[stream];
    const room = Math.max(0, Math.min(chunk.length, this.#allowedBytes() - state.passedBytes));
    state.passedBytes += room;
    state.clippedBytes += chunk.length - room;
    if (room > 0) {
      this.#pass(stream, chunk.subarray(0, room));
    }
  }

  [Symbol.dispose](): void {
    for (const stream of [1, 2] as const) {
      if (this.#streams[stream].clippedBytes > 0) {
        this.#pass(stream, Buffer.from(`\n[output clipped, ${this.#reason(stream)}]\n`));
      }
    }
    this.#echo?.[Symbol.dispose]();
  }

  #pass(stream: 1 | 2, data: Uint8Array): void {
    this.#report.log(stream, data);
    this.#echo?.write(stream, data);
  }

  /** What a stream may have written by now. The speed limit counts from the start, with a second's worth ahead. */
  #allowedBytes(): number {
    const { maxBytes, maxBytesPerSecond } = this.#limits;
    const bySize = maxBytes < 0 ? Number.POSITIVE_INFINITY : maxBytes;
    const seconds = 1 + (performance.now() - this.#startedAtMs) / 1000;
    const bySpeed = maxBytesPerSecond < 0 ? Number.POSITIVE_INFINITY : maxBytesPerSecond * seconds;
    return Math.min(bySize, bySpeed);
  }

  #reason(stream: 1 | 2): string {
    const { maxBytes, maxBytesPerSecond } = this.#limits;
    return maxBytes >= 0 && this.#streams[stream].passedBytes >= maxBytes
      ? `log limit ${inUnits(maxBytes)} reached`
      : `log speed limit ${inUnits(maxBytesPerSecond)}/s reached`;
  }
}

function inUnits(bytes: number): string {
  return bytes >= 1024 * 1024 ? `${bytes / 1024 / 1024}MiB` : `${bytes / 1024}KiB`;
}
