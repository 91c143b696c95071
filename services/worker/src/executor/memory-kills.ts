import { readFileSync } from "node:fs";
import { readKernelLog } from "@oci-worker/libc/kernel-log";

/** What a process ends with that SIGKILL has ended, as a shell tells it: 128 and the number of the signal. */
const exitKilled = 137;

/**
 * Sees whether the kernel kills processes of a step for want of memory while it runs.
 *
 * A step's cgroup counts them, and goes with the step before it could be asked: crun cannot be told to keep it, and an
 * eventfd on one of version 1 tells of every cgroup beneath the limit that was hit. So the machine's count (proc_vmstat(5),
 * oom_kill) says whether there was any kill, and the kernel's log whose it was, which costs a step nothing that fares well.
 */
export class MemoryKills {
  readonly #before = countKills();
  readonly #group: string | undefined;

  /** @param group the last name of the step's cgroup, which no other has; undefined if it has no cgroup of its own. */
  constructor(group: string | undefined) {
    this.#group = group;
  }

  /**
   * Whether that is why the step, which has ended, has done so with `code`.
   *
   * Where nobody can say whose the kills were, it is believed of a step that has died of SIGKILL.
   */
  explain(code: number): boolean {
    const kills = code === 0 ? 0 : countKills() - this.#before;
    return kills > 0 && (this.#isKilled(kills) ?? code === exitKilled);
  }

  #isKilled(kills: number): boolean | undefined {
    const log = this.#group === undefined ? undefined : kernelLog();
    return this.#group === undefined || log === undefined ? undefined : isKilled(this.#group, kills, log);
  }
}

/**
 * Whether one of the last `kills` for want of memory was in the cgroup `group` or beneath it.
 *
 * Of each kill the log has a line with the cgroup (`task_memcg`, since Linux 5.0), but no more than ten in five seconds, and
 * then one with the process, always (mm/oom_kill.c).
 *
 * @returns undefined if the log does not say.
 */
export function isKilled(group: string, kills: number, log: string): boolean | undefined {
  const stories = log.split(/: Killed process \d+ /);
  // The last of several: one that ends just then is left alone, though its story is told.
  const groups = stories.map((story) => /^.*,task_memcg=(.*?),task=/s.exec(story)?.[1]);
  // In a slice of systemd's the name has a prefix, of another form where there is no systemd.
  const name = new RegExp(`[/:-]${RegExp.escape(group)}(\\.scope)?(/|$)`);
  if (groups.some((path) => path !== undefined && name.test(path))) {
    return true;
  }
  if (groups.at(-1) === undefined) {
    // What came after the last kill, and not the story of one that is being written.
    groups.pop();
  }
  const last = groups.slice(-kills);
  return last.length < kills || last.includes(undefined) ? undefined : false;
}

function countKills(): number {
  return Number(/^oom_kill (\d+)$/m.exec(readFileSync("/proc/vmstat", "utf8"))?.[1] ?? 0);
}

/** Undefined if it may not be read. */
function kernelLog(): string | undefined {
  try {
    return readKernelLog();
  } catch {
    return undefined;
  }
}
