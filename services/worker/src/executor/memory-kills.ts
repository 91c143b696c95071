import { readFileSync } from "node:fs";

/** What a process ends with that SIGKILL has ended, as a shell tells it: 128 and the number of the signal. */
const exitKilled = 137;

/**
 * Sees whether the kernel kills processes for want of memory while a step runs.
 *
 * The count is the machine's (proc_vmstat(5), oom_kill), for a step's own cgroup goes with the step. Two steps that end by
 * SIGKILL at once may so both be told to have had too little.
 */
export class MemoryKills {
  readonly #before = countKills();

  /** Whether that is why a step has ended with `code`. */
  explain(code: number): boolean {
    return code === exitKilled && countKills() > this.#before;
  }
}

function countKills(): number {
  return Number(/^oom_kill (\d+)$/m.exec(readFileSync("/proc/vmstat", "utf8"))?.[1] ?? 0);
}
