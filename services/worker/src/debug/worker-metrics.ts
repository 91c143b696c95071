import { Code } from "@connectrpc/connect";
import { statusOf } from "@oci-worker/errdefs/connect";
import type { CallObserver } from "@oci-worker/grpc/call";
import type { Vertex } from "@oci-worker/llb/definition";
import type { Operation } from "../solver/operation.ts";
import type { OperationFactory } from "../solver/scheduler.ts";
import { Metrics } from "./metrics.ts";
import { addProcessFigures } from "./process-figures.ts";

/** What the worker counts of its work, for whoever asks on the debug address. */
export class WorkerMetrics {
  readonly #metrics = new Metrics();
  readonly #builds = this.#metrics.durations(
    "ociworker_build_duration_seconds",
    "Builds that have ended, by outcome.",
  );
  readonly #operations = this.#metrics.durations(
    "ociworker_operation_duration_seconds",
    "Operations that were run because their result was not in the cache, by kind and outcome.",
  );
  readonly #calls = this.#metrics.durations(
    "grpc_server_handling_seconds",
    "Calls that have ended, by service, method and code.",
  );
  readonly #lookups = this.#metrics.counter(
    "ociworker_cache_lookups_total",
    "Results that were looked for in the cache, by whether they were there.",
  );
  #buildsRunning = 0;
  #operationsRunning = 0;

  constructor() {
    this.#metrics.gauge("ociworker_builds_running", "Builds under way.", () => this.#buildsRunning);
    this.#metrics.gauge(
      "ociworker_operations_running",
      "Operations under way.",
      () => this.#operationsRunning,
    );
    addProcessFigures(this.#metrics);
  }

  /** Shows how many clients are attached, as `live` counts them. */
  watchSessions(live: () => number): void {
    this.#metrics.gauge(
      "ociworker_sessions_attached",
      "Clients that lend builds their files and credentials.",
      live,
    );
  }

  /** Shows what has become of the spans that are passed on to a collector. */
  watchSpans(forwarder: { readonly sent: number; readonly dropped: number }): void {
    this.#metrics.total(
      "ociworker_spans_sent_total",
      "Spans that the collector of traces has taken.",
      () => forwarder.sent,
    );
    this.#metrics.total(
      "ociworker_spans_dropped_total",
      "Spans that the collector of traces has not taken, and will not be sent again.",
      () => forwarder.dropped,
    );
  }

  /** All figures as they are now, in the text format of Prometheus. */
  render(): string {
    return this.#metrics.render();
  }

  /** To be told of every call when it has ended. */
  readonly observeCall: CallObserver = ({ rpc, durationMs }, thrown) => {
    const [service = "", method = ""] = rpc.split("/");
    const code = thrown === undefined ? "OK" : Code[statusOf(thrown).code];
    this.#calls.add(durationMs / 1000, { grpc_service: service, grpc_method: method, grpc_code: code });
  };

  /** Whether a result was in the cache. */
  countLookup(isThere: boolean): void {
    this.#lookups.add({ result: isThere ? "hit" : "miss" });
  }

  /** Does the work of a build, and counts it. */
  async build<T>(work: () => Promise<T>): Promise<T> {
    this.#buildsRunning += 1;
    try {
      return await timed(work, (seconds, outcome) => this.#builds.add(seconds, { outcome }));
    } finally {
      this.#buildsRunning -= 1;
    }
  }

  /** Makes the operations that `operationOf` makes, and counts what they do. */
  operations(operationOf: OperationFactory): OperationFactory {
    return (vertex) => this.#counted(operationOf(vertex), vertex);
  }

  #counted(operation: Operation, { op }: Vertex): Operation {
    const kind = op.op.case ?? "none";
    return {
      cacheKey: (...args) => operation.cacheKey(...args),
      execute: async (...args) => {
        this.#operationsRunning += 1;
        try {
          return await timed(
            () => operation.execute(...args),
            (seconds, outcome) => this.#operations.add(seconds, { kind, outcome }),
          );
        } finally {
          this.#operationsRunning -= 1;
        }
      },
    };
  }
}

async function timed<T>(
  work: () => Promise<T>,
  add: (seconds: number, outcome: "done" | "failed" | "canceled") => void,
): Promise<T> {
  const startedAtMs = performance.now();
  const seconds = () => (performance.now() - startedAtMs) / 1000;
  try {
    const result = await work();
    add(seconds(), "done");
    return result;
  } catch (error) {
    add(seconds(), statusOf(error).code === Code.Canceled ? "canceled" : "failed");
    throw error;
  }
}
