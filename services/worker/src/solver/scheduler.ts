import type { Graph, Vertex } from "@oci-worker/llb/definition";
import type { TellDecision } from "./decision-log.ts";
import type { Job } from "./job.ts";
import type { Operation, Ref } from "./operation.ts";
import type { ResultCache } from "./result-cache.ts";
import { type RunEdge, VertexRun } from "./vertex-run.ts";

/** Finds what does the work of a vertex, or says why nothing here can. */
export type OperationFactory = (vertex: Vertex) => Operation;

/**
 * Runs the graphs of all builds. A vertex that several of them have is worked on once.
 */
export class Scheduler {
  readonly #operationOf: OperationFactory;
  readonly #cache: ResultCache;
  readonly #tellOf: (vertex: Vertex) => TellDecision;
  /** Every run that some job wants, those included that have failed. */
  readonly #runs = new Set<VertexRun>();
  /** The run of each vertex that a further job joins. */
  readonly #joinable = new Map<string, VertexRun>();

  /** @param tellOf told of what is decided about a vertex; see decision-log.ts. */
  constructor(
    operationOf: OperationFactory,
    cache: ResultCache,
    tellOf: (vertex: Vertex) => TellDecision = () => () => undefined,
  ) {
    this.#operationOf = operationOf;
    this.#cache = cache;
    this.#tellOf = tellOf;
  }

  /**
   * Has `job` want the result of `graph`. Nothing is done before {@link evaluate}.
   *
   * @throws {InvalidArgumentError} {UnimplementedError} if a vertex asks for what we cannot do.
   */
  load(graph: Graph, job: Job): RunEdge {
    const runs = new Map<string, VertexRun>();
    for (const vertex of graph.vertices) {
      const inputs = vertex.inputs.map((input) => edgeIn(runs, input.vertex, input.index));
      runs.set(vertex.digest, this.#runOf(vertex, inputs));
    }
    const result = edgeIn(runs, graph.result.vertex, graph.result.index);
    result.run.join(job);
    return result;
  }

  /** The result of a loaded graph. Rejects at once when `job` is aborted; {@link leave} waits for the work to end. */
  async evaluate({ run, index }: RunEdge, job: Job): Promise<Ref> {
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(job.signal.reason);
    job.signal.addEventListener("abort", onAbort, { once: true });
    try {
      job.signal.throwIfAborted();
      return await Promise.race([run.output(index), aborted.promise]);
    } finally {
      job.signal.removeEventListener("abort", onAbort);
    }
  }

  /** `job` has ended. Resolves when everything that was done for it alone has been given up and cleaned up. */
  async leave(job: Job): Promise<void> {
    await Promise.all([...this.#runs].map((run) => run.leave(job)));
    for (const run of this.#runs) {
      if (!run.isWanted) {
        this.#runs.delete(run);
      }
    }
    for (const [key, run] of this.#joinable) {
      if (!run.isWanted) {
        this.#joinable.delete(key);
      }
    }
  }

  /**
   * The run of `vertex` that is under way, or a new one.
   *
   * One that must not use the cache does not join one that may; the other way round is as good as a cache hit.
   */
  #runOf(vertex: Vertex, inputs: readonly RunEdge[]): VertexRun {
    const { digest, metadata, variant } = vertex;
    const plainKey = variant === undefined ? digest : `${digest}-${variant}`;
    const shared = this.#usable(plainKey);
    if (shared === undefined) {
      return this.#start(plainKey, vertex, inputs);
    }
    if (shared.ignoresCache || !metadata.ignoreCache) {
      return this.#joined(shared);
    }
    const key = `${plainKey}-ignorecache`;
    const sharedFresh = this.#usable(key);
    return sharedFresh === undefined ? this.#start(key, vertex, inputs) : this.#joined(sharedFresh);
  }

  #usable(key: string): VertexRun | undefined {
    const run = this.#joinable.get(key);
    return run?.isUsable === true ? run : undefined;
  }

  #joined(run: VertexRun): VertexRun {
    this.#tellOf(run.vertex)("vertex is worked on already, for another build");
    return run;
  }

  #start(key: string, vertex: Vertex, inputs: readonly RunEdge[]): VertexRun {
    const operation = this.#operationOf(vertex);
    const run = new VertexRun({ vertex, inputs, operation, cache: this.#cache, tell: this.#tellOf(vertex) });
    this.#joinable.set(key, run);
    this.#runs.add(run);
    return run;
  }
}

function edgeIn(runs: ReadonlyMap<string, VertexRun>, vertex: Vertex, index: number): RunEdge {
  const run = runs.get(vertex.digest);
  if (run === undefined) {
    throw new Error(`vertex ${vertex.digest} comes before its input in a loaded graph`);
  }
  return { run, index };
}
