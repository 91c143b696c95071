import { readFile } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";

/** What a server has done under load. */
export interface Load {
  readonly callsPerSecond: number;
  /** CPU time of the server's process for one call, user and system together. */
  readonly cpuMicrosecondsPerCall: number;
  readonly medianMicroseconds: number;
}

export interface LoadOptions {
  /** Callers at a time. */
  readonly concurrency: number;
  readonly durationMs: number;
  /** Of the server. */
  readonly pid: number;
  /** How long each caller waits after each call on average, so that they come one by one; absent: not at all. */
  readonly pauseMs?: number;
}

/** Clock ticks a second of /proc/PID/stat: sysconf(_SC_CLK_TCK), 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** Has `concurrency` callers repeat `call`, each with a number of its own, and measures the server meanwhile. */
export async function measure(
  call: (caller: number) => Promise<unknown>,
  options: LoadOptions,
): Promise<Load> {
  const { concurrency, durationMs, pid, pauseMs } = options;
  const latencies: number[] = [];
  const cpuBefore = await cpuSeconds(pid);
  const startedAt = performance.now();
  const endAt = startedAt + durationMs;
  const callers = Array.from({ length: concurrency }, async (_, caller) => {
    while (performance.now() < endAt) {
      const before = performance.now();
      await call(caller);
      latencies.push(performance.now() - before);
      if (pauseMs !== undefined) {
        await pause(2 * pauseMs * Math.random());
      }
    }
  });
  await Promise.all(callers);
  const elapsedSeconds = (performance.now() - startedAt) / 1000;
  const cpu = (await cpuSeconds(pid)) - cpuBefore;
  return {
    callsPerSecond: latencies.length / elapsedSeconds,
    cpuMicrosecondsPerCall: (cpu / latencies.length) * 1e6,
    medianMicroseconds: (latencies.sort((a, b) => a - b)[latencies.length >> 1] ?? 0) * 1000,
  };
}

/** CPU time that the process has used so far, its threads included (proc(5), utime and stime). */
export async function cpuSeconds(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  // The second field is the program's name in parentheses, which may have spaces in it.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
