import { CanceledError, InvalidArgumentError } from "@oci-worker/errdefs";
import type { Vertex } from "@oci-worker/llb/definition";
import { type Digest, digestOf } from "@oci-worker/oci/digest";
import type { Lease } from "../cache/lease.ts";
import type { TellDecision } from "./decision-log.ts";
import { messageOf, VertexError } from "./failure.ts";
import type { Job } from "./job.ts";
import type { Operation, OperationContext, Ref } from "./operation.ts";
import type { ProgressEvent } from "./progress.ts";
import type { ResultCache } from "./result-cache.ts";
import { VertexReport } from "./vertex-report.ts";

/** An output of a run. */
export interface RunEdge {
  readonly run: VertexRun;
  readonly index: number;
}

export interface VertexRunParts {
  readonly vertex: Vertex;
  readonly inputs: readonly RunEdge[];
  readonly operation: Operation;
  readonly cache: ResultCache;
  /** Told of what is decided. */
  readonly tell: TellDecision;
}

/**
 * One vertex being worked on, for every build that wants it: done once, reported to all, and given up when the last of
 * them has left.
 */
export class VertexRun {
  readonly vertex: Vertex;
  readonly #inputs: readonly RunEdge[];
  readonly #operation: Operation;
  readonly #cache: ResultCache;
  readonly #tell: TellDecision;
  readonly #report: VertexReport;
  readonly #jobs = new Map<Job, (event: ProgressEvent) => void>();
  readonly #controller = new AbortController();
  readonly #lease: Lease;
  readonly #context: OperationContext;
  #key: Promise<Digest> | undefined;
  #outputs: Promise<readonly (Ref | undefined)[]> | undefined;

  constructor({ vertex, inputs, operation, cache, tell }: VertexRunParts) {
    this.vertex = vertex;
    this.#inputs = inputs;
    this.#operation = operation;
    this.#cache = cache;
    this.#tell = tell;
    this.#report = new VertexReport({
      digest: vertex.digest,
      inputs: vertex.inputs.map((input) => input.vertex.digest),
      name: vertex.name,
    });
    this.#lease = cache.lease();
    this.#context = {
      report: this.#report,
      signal: this.#controller.signal,
      lease: this.#lease,
      keyOf: (text) => {
        const key = digestOf(text);
        cache.onKey(key, text, vertex.name);
        return key;
      },
      sessionIDs: () => [...new Set([...this.#jobs.keys()].flatMap((job) => job.sessionIDs))],
      trace: () => {
        const [job] = this.#jobs.keys();
        return job && this.#report.within(job.trace);
      },
    };
  }

  get ignoresCache(): boolean {
    return this.vertex.metadata.ignoreCache;
  }

  /** Whether a job may still join: nobody has given it up, and it has not failed. */
  get isUsable(): boolean {
    return !this.#controller.signal.aborted;
  }

  /** `job` wants this vertex, and with it all its inputs. */
  join(job: Job): void {
    if (this.#jobs.has(job)) {
      return;
    }
    for (const { run } of this.#inputs) {
      run.join(job);
    }
    const listener = (event: ProgressEvent) => job.progress.append(event);
    this.#jobs.set(job, listener);
    this.#report.subscribe(listener);
  }

  /** `job` wants it no more. Resolves when that means nothing, or when the work that it meant has been given up. */
  async leave(job: Job): Promise<void> {
    if (this.#jobs.size === 1 && this.#jobs.has(job)) {
      this.#tell("vertex is not wanted any more");
      this.#controller.abort(new CanceledError(`${this.vertex.name} is not wanted any more`));
      // How the work ends has been reported by then, to the job that leaves too.
      await Promise.allSettled([this.#key, this.#outputs]);
      this.#lease[Symbol.dispose]();
    }
    const listener = this.#jobs.get(job);
    if (listener !== undefined) {
      this.#report.unsubscribe(listener);
      this.#jobs.delete(job);
    }
  }

  get isWanted(): boolean {
    return this.#jobs.size > 0;
  }

  /** What identifies the results, without making them. */
  key(): Promise<Digest> {
    this.#key ??= this.#failing(this.#findKey());
    return this.#key;
  }

  /** The output `index`, made now unless it is in the cache. */
  async output(index: number): Promise<Ref> {
    this.#outputs ??= this.#failing(this.#make());
    const ref = (await this.#outputs)[index];
    if (ref === undefined) {
      throw new InvalidArgumentError(
        `Cannot use output ${index} of ${this.vertex.name}: it has none of that number`,
      );
    }
    return ref;
  }

  async #findKey(): Promise<Digest> {
    const inputKeys = await Promise.all(
      this.#inputs.map(async ({ run, index }) => `${await run.key()}@${index}`),
    );
    const key = await this.#operation.cacheKey(inputKeys, this.#context);
    this.#tell("vertex has a cache key", { key, inputKeys });
    this.#report.complete();
    return key;
  }

  async #make(): Promise<readonly (Ref | undefined)[]> {
    const key = await this.key();
    if (this.ignoresCache) {
      this.#tell("cache is not asked", { key });
    } else {
      const hit = await this.#cache.load(key, this.#lease, this.#controller.signal);
      if (hit !== undefined) {
        this.#tell("result is in the cache", { key, outputs: snapshotsOf(hit) });
        this.#markCached();
        return hit;
      }
      this.#tell("result is not in the cache", { key });
    }
    const inputs = await Promise.all(this.#inputs.map(({ run, index }) => run.output(index)));
    this.#controller.signal.throwIfAborted();
    this.#report.begin();
    this.#tell("work begins", { inputs: snapshotsOf(inputs) });
    const outputs = await this.#operation.execute(inputs, this.#context);
    this.#cache.save(key, outputs, this.vertex.name);
    this.#tell("work has ended", { key, outputs: snapshotsOf(outputs) });
    this.#report.complete();
    return outputs;
  }

  /** The result is there, so nothing beneath it needs to be made either. */
  #markCached(): void {
    this.#report.cached();
    for (const { run } of this.#inputs) {
      if (run.#outputs === undefined) {
        run.#markCached();
      }
    }
  }

  /**
   * Reports what goes wrong in this vertex and names it; what an input has failed with is passed on as it is. Either
   * way no further job may join.
   */
  async #failing<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      this.#controller.abort(error);
      if (error instanceof VertexError) {
        this.#tell("an input has failed", { input: error.vertex });
        throw error;
      }
      this.#tell("vertex has failed", { reason: messageOf(error) });
      this.#report.fail(messageOf(error));
      throw new VertexError(this.vertex.digest, error);
    }
  }
}

function snapshotsOf(refs: readonly (Ref | undefined)[]): (string | undefined)[] {
  return refs.map((ref) => ref?.snapshot);
}
