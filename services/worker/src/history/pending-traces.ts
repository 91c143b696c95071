import type { TraceRecording } from "../traces/recorder.ts";

/** Clients send their last spans when the build has ended: so long they are waited for. Upstream's number. */
const patienceMs = 3000;

interface PendingTrace {
  readonly timer: NodeJS.Timeout;
  /** Settles when it has been saved. */
  readonly saving: Promise<void>;
  finish(): void;
}

/** The traces of builds that have ended just now, to which clients are still to add. Disposing saves what has come. */
export class PendingTraces implements AsyncDisposable {
  readonly #save: (ref: string, recording: TraceRecording) => Promise<void>;
  readonly #traces = new Map<string, PendingTrace>();

  /** @param save must not fail. */
  constructor(save: (ref: string, recording: TraceRecording) => Promise<void>) {
    this.#save = save;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#traces.keys()].map((ref) => this.finish(ref)));
  }

  /** Has the trace of the build `ref` saved in a while. */
  add(ref: string, recording: TraceRecording): void {
    const finished = Promise.withResolvers<void>();
    const saving = finished.promise
      .then(() => this.#save(ref, recording))
      .finally(() => this.#traces.delete(ref));
    const timer = setTimeout(finished.resolve, patienceMs).unref();
    this.#traces.set(ref, { timer, saving, finish: finished.resolve });
  }

  /** Saves the trace of the build `ref` now, if it has not been. Resolves when it is. */
  async finish(ref: string): Promise<void> {
    const trace = this.#traces.get(ref);
    if (trace !== undefined) {
      clearTimeout(trace.timer);
      trace.finish();
      await trace.saving;
    }
  }
}
