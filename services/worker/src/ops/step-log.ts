import type { VertexReport } from "../solver/vertex-report.ts";
import type { StepEcho } from "./step-echo.ts";

/** How much of a step's output is passed on; a step in an endless loop must not fill anybody's memory or disk. */
export interface StepLogLimits {
  /** Bytes of each stream; -1 for no limit. */
  readonly maxBytes: number;
  /** Bytes a second of each stream; -1 for no limit. */
  readonly maxBytesPerSecond: number;
}

/** So much of the end of a stream that was clipped is shown when its step fails: the error is there (BuildKit, util/progress/logs). */
const tailBytes = 256 * 1024;

interface StreamState {
  /** What the step has written, whether it was passed on or not. */
  writtenBytes: number;
  isClipping: boolean;
  /** What was written since something was clipped for the first time; undefined until then. */
  tail: Tail | undefined;
}

/**
 * Passes a step's output on to its vertex, up to the limits.
 *
 * Where something is left out stands what was too much, in upstream's words. Output that comes more slowly again is passed
 * on again.
 */
export class StepLog implements Disposable {
  readonly #report: VertexReport;
  readonly #limits: StepLogLimits;
  readonly #echo: StepEcho | undefined;
  readonly #startedAtMs = performance.now();
  readonly #streams: Record<1 | 2, StreamState> = {
    1: { writtenBytes: 0, isClipping: false, tail: undefined },
    2: { writtenBytes: 0, isClipping: false, tail: undefined },
  };

  /** @param echo has what is passed on, too. */
  constructor(report: VertexReport, limits: StepLogLimits, echo?: StepEcho) {
    this.#report = report;
    this.#limits = limits;
    this.#echo = echo;
  }

  write(stream: 1 | 2, chunk: Buffer): void {
    const state = this.#streams[stream];
    const { allowedBytes, limit } = this.#allowance();
    const room = Math.max(0, Math.min(chunk.length, allowedBytes - state.writtenBytes));
    state.writtenBytes += chunk.length;
    if (room < chunk.length) {
      state.tail ??= new Tail();
    }
    state.tail?.add(chunk);
    const passed = chunk.subarray(0, room);
    if (room === chunk.length) {
      state.isClipping = false;
      this.#pass(stream, passed);
    } else if (!state.isClipping) {
      state.isClipping = true;
      const notice = Buffer.from(`\n[output clipped, log limit ${limit} reached]\n`);
      this.#pass(stream, Buffer.concat([passed, notice]));
    }
  }

  /** Shows the end of what was clipped, which says why a step has failed. */
  showTails(): void {
    for (const stream of [1, 2] as const) {
      const { tail } = this.#streams[stream];
      if (tail !== undefined) {
        this.#pass(stream, tail.content());
      }
    }
  }

  [Symbol.dispose](): void {
    this.#echo?.[Symbol.dispose]();
  }

  #pass(stream: 1 | 2, data: Uint8Array): void {
    this.#report.log(stream, data);
    this.#echo?.write(stream, data);
  }

  /** How much of a stream may have been written by now, and the limit that this comes from. Of speed each second begun counts. */
  #allowance(): { readonly allowedBytes: number; readonly limit: string } {
    const { maxBytes, maxBytesPerSecond } = this.#limits;
    const bySize = maxBytes < 0 ? Number.POSITIVE_INFINITY : maxBytes;
    const seconds = Math.floor((performance.now() - this.#startedAtMs) / 1000) + 1;
    const bySpeed = maxBytesPerSecond < 0 ? Number.POSITIVE_INFINITY : maxBytesPerSecond * seconds;
    return bySpeed <= bySize
      ? { allowedBytes: bySpeed, limit: `${inUnits(maxBytesPerSecond)}/s` }
      : { allowedBytes: bySize, limit: inUnits(maxBytes) };
  }
}

/** The last {@link tailBytes} of what is added. */
class Tail {
  readonly #ring = Buffer.alloc(tailBytes);
  #bytes = 0;

  add(chunk: Buffer): void {
    const last = chunk.subarray(-tailBytes);
    const start = (this.#bytes + chunk.length - last.length) % tailBytes;
    const copied = last.copy(this.#ring, start);
    last.copy(this.#ring, 0, copied);
    this.#bytes += chunk.length;
  }

  content(): Buffer {
    if (this.#bytes <= tailBytes) {
      return this.#ring.subarray(0, this.#bytes);
    }
    const start = this.#bytes % tailBytes;
    return Buffer.concat([this.#ring.subarray(start), this.#ring.subarray(0, start)]);
  }
}

/** As upstream prints sizes: in the largest binary unit of which there is at least one. */
function inUnits(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  return `${bytes / 1024 ** power}${units[power]}`;
}
