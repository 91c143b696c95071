import type { StatusUpdate, TaskUpdate, VertexUpdate } from "@oci-worker/client/status";

/** How often it is told how far a task is, in milliseconds. */
const progressIntervalMs = 100;

/** What a display shows of a step that was interrupted: BuildKit's words. */
const canceled = "context canceled";

/** Something that a step does. */
export interface StepTask {
  /** Says how far it is. */
  reach(current: number): void;
  end(): void;
}

/** A step that is under way. */
export interface Step {
  /** Begins something with an end. @param total in bytes; 0 if nobody knows. */
  task(id: string, total: number): StepTask;
  /** Says that there is nothing to do: it was done before. */
  cached(): void;
  warn(text: string): void;
}

/** Tells a display what this program does itself, as a daemon tells what it does. */
export class Steps {
  readonly #tell: (update: StatusUpdate) => void;
  #count = 0;

  constructor(tell: (update: StatusUpdate) => void) {
    this.#tell = tell;
  }

  /** Does `work` as a step of its own. */
  async run<T>(name: string, signal: AbortSignal, work: (step: Step) => Promise<T>): Promise<T> {
    this.#count += 1;
    const digest = `step ${this.#count}`;
    const startedAtMs = Date.now();
    const vertex = (state: Partial<VertexUpdate>) =>
      this.#update({
        vertices: [
          {
            digest,
            inputs: [],
            name,
            cached: false,
            startedAtMs,
            completedAtMs: undefined,
            error: "",
            ...state,
          },
        ],
      });
    vertex({});
    let cached = false;
    try {
      const result = await work({
        task: (id, total) => this.#task(digest, id, total),
        cached: () => {
          cached = true;
        },
        warn: (text) => this.#update({ warnings: [{ vertex: digest, text, details: [], url: "" }] }),
      });
      vertex({ cached, completedAtMs: Date.now() });
      return result;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      vertex({ completedAtMs: Date.now(), error: signal.aborted ? canceled : message });
      throw error;
    }
  }

  #task(vertex: string, id: string, total: number): StepTask {
    const startedAtMs = Date.now();
    let [current, toldAtMs] = [0, startedAtMs];
    const tell = (state: Partial<TaskUpdate>) =>
      this.#update({
        tasks: [{ vertex, id, name: id, current, total, startedAtMs, completedAtMs: undefined, ...state }],
      });
    tell({});
    return {
      reach(reached) {
        current = reached;
        if (Date.now() - toldAtMs >= progressIntervalMs) {
          toldAtMs = Date.now();
          tell({});
        }
      },
      end: () => tell({ completedAtMs: Date.now() }),
    };
  }

  #update(parts: Partial<StatusUpdate>): void {
    this.#tell({ vertices: [], tasks: [], logs: [], warnings: [], ...parts });
  }
}
