import type { ProgressEvent } from "../solver/progress.ts";
import type { StepCounts } from "./build-record.ts";

/** Counts the warnings that a build has given. */
export function countWarnings(events: readonly ProgressEvent[]): number {
  return events.filter(({ kind }) => kind === "warning").length;
}

/** Counts the vertices that a build has reported. One that was cached at any time counts as cached. */
export function countSteps(events: readonly ProgressEvent[]): StepCounts {
  const all = new Set<string>();
  const cached = new Set<string>();
  const completed = new Set<string>();
  for (const event of events) {
    if (event.kind !== "vertex") {
      continue;
    }
    const { digest, completedAt } = event.vertex;
    all.add(digest);
    if (event.vertex.cached) {
      cached.add(digest);
    }
    if (completedAt !== undefined) {
      completed.add(digest);
    }
  }
  return { total: all.size, cached: cached.size, completed: completed.size };
}
