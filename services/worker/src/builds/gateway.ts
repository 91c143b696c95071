import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { Containers } from "../containers/containers.ts";
import { newId } from "../new-id.ts";
import type { RunEdge } from "../solver/vertex-run.ts";
import type { ResultMetadata } from "./exporter.ts";

/** What a client has solved: nothing at all, or an output of a loaded graph. */
export type SolvedResult = RunEdge | undefined;

/** What a build comes to. */
export interface BuildResult {
  readonly edge: SolvedResult;
  readonly metadata: ResultMetadata;
}

/**
 * A build whose client decides step by step what is built: it solves definitions, keeps references to their results,
 * and returns one of them in the end.
 */
export class Gateway {
  /** What the client looks at results with. */
  readonly containers = new Containers();
  readonly #results = new Map<string, SolvedResult>();
  readonly #returned = Promise.withResolvers<BuildResult>();

  constructor() {
    // Whoever waits for it sees the failure; a build that is canceled first has nobody waiting.
    this.#returned.promise.catch(() => undefined);
  }

  /** Keeps a result under an id that the client may name later. */
  keep(result: RunEdge): string {
    const id = newId();
    this.#results.set(id, result);
    return id;
  }

  /** @throws {NotFoundError} if no result of this build has that id. */
  resultOf(id: string): SolvedResult {
    if (!this.#results.has(id)) {
      throw new NotFoundError(`Cannot use result ${JSON.stringify(id.slice(0, 100))}: not found`);
    }
    return this.#results.get(id);
  }

  /** The client is done, with a result or a failure of its own. Only the first word counts. */
  succeed(result: BuildResult): void {
    this.#returned.resolve(result);
  }

  fail(error: Error): void {
    this.#returned.reject(error);
  }

  /** What the client returns, waited for. */
  async returned(signal: AbortSignal): Promise<BuildResult> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = () =>
      aborted.reject(
        signal.reason ??
          new FailedPreconditionError("Cannot wait for the client's result: it has been canceled"),
      );
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([this.#returned.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}
