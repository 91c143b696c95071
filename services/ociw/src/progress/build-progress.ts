import type { StatusUpdate, TaskUpdate, VertexUpdate } from "@oci-worker/client/status";
import { oneLine } from "../output/failure.ts";

/** A step of a build, as far as it is known. */
export interface Step {
  /** Counted from 1 in the order in which steps began. */
  readonly number: number;
  readonly digest: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly cached: boolean;
  readonly error: string;
  /** Ends of the times it has run, by their beginnings; a step may begin again. Milliseconds since 1970. */
  readonly runs: ReadonlyMap<number, number | undefined>;
  readonly tasks: ReadonlyMap<string, Task>;
  readonly warnings: readonly string[];
}

/** Something that a step does: a download, an extraction. */
export interface Task {
  readonly id: string;
  readonly current: number;
  readonly total: number;
  readonly startedAtMs: number | undefined;
  readonly completedAtMs: number | undefined;
}

interface MutableStep extends Step {
  name: string;
  inputs: readonly string[];
  cached: boolean;
  error: string;
  readonly runs: Map<number, number | undefined>;
  readonly tasks: Map<string, Task>;
  readonly warnings: string[];
}

/** BuildKit's word for what happens to the steps of a canceled build. */
const canceled = "context canceled";

/** How the steps of a build stand, put together from its updates. */
export class BuildProgress {
  readonly #steps = new Map<string, MutableStep>();
  /** Steps that have been announced, whether they have begun or not, by what they need. */
  readonly #dependents = new Map<string, Set<string>>();
  #over = false;

  /** The steps that have begun, in that order. */
  get steps(): readonly Step[] {
    return [...this.#steps.values()];
  }

  apply({ vertices, tasks, warnings }: StatusUpdate): void {
    for (const vertex of vertices) {
      this.#applyVertex(vertex);
    }
    for (const task of tasks) {
      this.#applyTask(task);
    }
    for (const { vertex, text } of warnings) {
      this.#steps.get(vertex)?.warnings.push(oneLine(text));
    }
  }

  /** No more updates come. */
  end(): void {
    this.#over = true;
  }

  /**
   * Whether a step stands as it will stand in the end.
   *
   * BuildKit ends a step when it knows what would have to be done, and begins it again to do it. So one that others
   * need is only done when one of those has begun.
   */
  isSettled({ digest, error, runs }: Step): boolean {
    if (this.#over || error !== "") {
      return true;
    }
    const isRunning = [...runs.values()].includes(undefined);
    const dependents = this.#dependents.get(digest);
    return !isRunning && (dependents === undefined || [...dependents].some((each) => this.#steps.has(each)));
  }

  #applyVertex({ digest, name, inputs, cached, startedAtMs, completedAtMs, error }: VertexUpdate): void {
    for (const input of inputs) {
      const dependents = this.#dependents.get(input) ?? new Set();
      this.#dependents.set(input, dependents.add(digest));
    }
    if (startedAtMs === undefined && !cached && error === "" && !this.#steps.has(digest)) {
      return;
    }
    const step = this.#stepOf(digest);
    step.name = oneLine(name);
    step.inputs = inputs;
    step.cached = cached;
    step.error = oneLine(error);
    if (startedAtMs !== undefined) {
      step.runs.set(startedAtMs, completedAtMs);
    }
  }

  #stepOf(digest: string): MutableStep {
    const known = this.#steps.get(digest);
    if (known !== undefined) {
      return known;
    }
    const step: MutableStep = {
      number: this.#steps.size + 1,
      digest,
      name: "",
      inputs: [],
      cached: false,
      error: "",
      runs: new Map(),
      tasks: new Map(),
      warnings: [],
    };
    this.#steps.set(digest, step);
    return step;
  }

  #applyTask({ vertex, id, current, total, startedAtMs, completedAtMs }: TaskUpdate): void {
    this.#steps.get(vertex)?.tasks.set(id, { id: oneLine(id), current, total, startedAtMs, completedAtMs });
  }
}

/** How long a step has run until `nowMs`, in milliseconds. */
export function elapsedMs({ runs }: Pick<Step, "runs">, nowMs: number): number {
  return [...runs].reduce(
    (sum, [startedAt, endedAt]) => sum + Math.max(0, (endedAt ?? nowMs) - startedAt),
    0,
  );
}

/** How long a task has taken until `nowMs`, in milliseconds. */
export function taskElapsedMs({ startedAtMs, completedAtMs }: Task, nowMs: number): number {
  return startedAtMs === undefined ? 0 : Math.max(0, (completedAtMs ?? nowMs) - startedAtMs);
}

export function isCanceled({ error }: Pick<Step, "error">): boolean {
  return error.includes(canceled);
}
