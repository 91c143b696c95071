import {
  type BuildProgress,
  elapsedMs,
  isCanceled,
  type Step,
  type Task,
  taskElapsedMs,
} from "./build-progress.ts";
import { formatBytes, formatDuration } from "./units.ts";

/** How often a task that goes on is told, in milliseconds. */
const taskIntervalMs = 5000;

/** What of a step has been told. */
interface Told {
  result: boolean;
  warnings: number;
  /** When each task was told last, in milliseconds; infinity once it was told as done. */
  readonly tasks: Map<string, number>;
}

/**
 * The progress of a build as lines that only ever follow each other, for files and pipes:
 *
 * ```text
 * #1 resolve image config for docker.io/library/busybox:latest
 * #1 DONE 0.3s
 * #2 docker-image://docker.io/library/busybox:latest
 * #2 CACHED
 * ```
 */
export class PlainLines {
  readonly #progress: BuildProgress;
  readonly #told = new Map<string, Told>();

  constructor(progress: BuildProgress) {
    this.#progress = progress;
  }

  /** What is new since the last call. */
  next(nowMs: number): string[] {
    return this.#progress.steps.flatMap((step) => {
      const lines = this.#linesOf(step, nowMs);
      return lines.map((line) => `#${step.number} ${line}`);
    });
  }

  #linesOf(step: Step, nowMs: number): string[] {
    const known = this.#told.get(step.digest);
    const told = known ?? { result: false, warnings: 0, tasks: new Map<string, number>() };
    this.#told.set(step.digest, told);
    const lines = known === undefined ? [step.name] : [];
    for (const task of step.tasks.values()) {
      if (isNews(task, told.tasks.get(task.id), nowMs)) {
        const isDone = task.completedAtMs !== undefined;
        told.tasks.set(task.id, isDone ? Number.POSITIVE_INFINITY : nowMs);
        lines.push(taskLine(task, nowMs));
      }
    }
    lines.push(...step.warnings.slice(told.warnings).map((text) => `WARNING: ${text}`));
    told.warnings = step.warnings.length;
    if (!told.result && this.#progress.isSettled(step)) {
      told.result = true;
      lines.push(resultLine(step, nowMs));
    }
    return lines;
  }
}

/** A task is told when it is done, and now and then before that if it takes long. */
function isNews(task: Task, toldAtMs: number | undefined, nowMs: number): boolean {
  if (task.completedAtMs !== undefined) {
    return toldAtMs !== Number.POSITIVE_INFINITY;
  }
  const since = toldAtMs ?? task.startedAtMs ?? nowMs;
  return nowMs - since >= taskIntervalMs;
}

function taskLine(task: Task, nowMs: number): string {
  const { id, current, total, completedAtMs } = task;
  const parts = [id];
  if (total > 0) {
    parts.push(`${formatBytes(current)} / ${formatBytes(total)}`);
  } else if (current > 0) {
    parts.push(formatBytes(current));
  }
  parts.push(formatDuration(taskElapsedMs(task, nowMs)));
  if (completedAtMs !== undefined) {
    parts.push("done");
  }
  return parts.join(" ");
}

function resultLine(step: Step, nowMs: number): string {
  if (step.error !== "") {
    return isCanceled(step) ? "CANCELED" : `ERROR: ${step.error}`;
  }
  return step.cached ? "CACHED" : `DONE ${formatDuration(elapsedMs(step, nowMs))}`;
}
