import type { Digest } from "@oci-worker/oci/digest";
import { vertexSpanID } from "../traces/span-ids.ts";
import type { TraceContext } from "../traces/trace-context.ts";
import type { ProgressEvent, RowState, VertexState } from "./progress.ts";

/** Rows change with every chunk of a transfer; a client redraws some ten times a second. */
const rowIntervalMs = 100;

export type ProgressListener = (event: ProgressEvent) => void;

/** A line of work inside a vertex. */
export interface RowReport {
  /** Says how far it is. Most calls go unheard, so it may be called with every chunk. */
  update(current: number, total: number): void;
  /** It has ended, well. */
  complete(): void;
}

/**
 * What one vertex reports, to everybody who is interested in it now or later.
 *
 * A vertex may begin and end several times: an image is resolved first, and unpacked later if anybody needs it.
 */
export class VertexReport {
  readonly #events: ProgressEvent[] = [];
  readonly #listeners = new Set<ProgressListener>();
  #state: VertexState;

  constructor(identity: {
    readonly digest: Digest;
    readonly inputs: readonly Digest[];
    readonly name: string;
  }) {
    this.#state = { ...identity, cached: false, startedAt: undefined, completedAt: undefined, error: "" };
    this.#emit({ kind: "vertex", vertex: this.#state });
  }

  /** Tells `listener` everything so far, and what follows. */
  subscribe(listener: ProgressListener): void {
    for (const event of this.#events) {
      listener(event);
    }
    this.#listeners.add(listener);
  }

  unsubscribe(listener: ProgressListener): void {
    this.#listeners.delete(listener);
  }

  /** Whose report it is. */
  get vertex(): Pick<VertexState, "digest" | "name"> {
    return this.#state;
  }

  get hasBegun(): boolean {
    return this.#state.startedAt !== undefined;
  }

  /** The place of the vertex's work in the trace of a build; that of the build as long as it has not begun. */
  within(trace: TraceContext): TraceContext {
    const { digest, startedAt } = this.#state;
    return startedAt === undefined ? trace : { ...trace, spanID: vertexSpanID(digest, startedAt) };
  }

  get #isRunning(): boolean {
    return this.#state.startedAt !== undefined && this.#state.completedAt === undefined;
  }

  /** Work begins, unless it has already. */
  begin(): void {
    if (!this.#isRunning) {
      this.#change({ startedAt: new Date(), completedAt: undefined, cached: false });
    }
  }

  /** Work has ended well. */
  complete(): void {
    if (this.#isRunning) {
      this.#change({ completedAt: new Date() });
    }
  }

  /** There is nothing to do: the result is there. */
  cached(): void {
    if (!this.#state.cached) {
      const now = new Date();
      this.#change({ startedAt: this.#state.startedAt ?? now, completedAt: now, cached: true });
    }
  }

  /** Work has ended badly. */
  fail(error: string): void {
    const now = new Date();
    this.#change({ startedAt: this.#state.startedAt ?? now, completedAt: now, error });
  }

  /** A line of work named `id`, which begins now. */
  row(id: string, name = id): RowReport {
    const startedAt = new Date();
    let lastAtMs = Number.NEGATIVE_INFINITY;
    let latest: Pick<RowState, "current" | "total"> = { current: 0, total: 0 };
    const emit = (completedAt: Date | undefined) => {
      const row = {
        vertex: this.#state.digest,
        id,
        name,
        ...latest,
        timestamp: new Date(),
        startedAt,
        completedAt,
      };
      this.#emit({ kind: "row", row });
    };
    emit(undefined);
    return {
      update: (current, total) => {
        latest = { current, total };
        const nowMs = performance.now();
        if (nowMs - lastAtMs >= rowIntervalMs) {
          lastAtMs = nowMs;
          emit(undefined);
        }
      },
      complete: () => {
        latest = { current: latest.total || latest.current, total: latest.total };
        emit(new Date());
      },
    };
  }

  /** Something that the vertex has written. */
  log(stream: 1 | 2, data: Uint8Array): void {
    this.#emit({ kind: "log", log: { vertex: this.#state.digest, stream, data, timestamp: new Date() } });
  }

  #change(change: Partial<VertexState>): void {
    this.#state = { ...this.#state, ...change };
    this.#emit({ kind: "vertex", vertex: this.#state });
  }

  #emit(event: ProgressEvent): void {
    this.#events.push(event);
    for (const listener of this.#listeners) {
      listener(event);
    }
  }
}
