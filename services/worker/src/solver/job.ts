import { CanceledError } from "@oci-worker/errdefs";
import { beginSpan, type TraceContext } from "../traces/trace-context.ts";
import { ProgressLog } from "./progress.ts";

/** One build that a client has asked for. */
export class Job implements Disposable {
  /** The client's own name for it. */
  readonly ref: string;
  /** Clients that give it credentials and take its output. */
  readonly sessionIDs: readonly string[];
  /** What its work is a part of. */
  readonly trace: TraceContext;
  readonly progress = new ProgressLog();
  readonly #controller = new AbortController();

  constructor(ref: string, sessionIDs: readonly string[], trace = beginSpan()) {
    this.ref = ref;
    this.sessionIDs = sessionIDs;
    this.trace = trace;
  }

  /** Aborted when the build has been canceled or has ended. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  cancel(reason: unknown): void {
    this.#controller.abort(reason);
  }

  /** Ends it: nothing more is reported, nothing more is waited for. */
  [Symbol.dispose](): void {
    this.cancel(new CanceledError(`build ${this.ref} has ended`));
    this.progress.end();
  }
}
