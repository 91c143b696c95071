import { readdirSync } from "node:fs";
import { memoryUsage, uptime } from "node:process";
import type { Metrics } from "./metrics.ts";

/** Adds what Prometheus' own clients tell of every process, by the same names, and of Node what concerns its heap. */
export function addProcessFigures(metrics: Metrics): void {
  const startedAt = Date.now() / 1000 - uptime();
  metrics.total("process_cpu_seconds_total", "Processor time in seconds, user and system.", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  metrics.gauge("process_resident_memory_bytes", "Memory that is resident.", () => memoryUsage.rss());
  metrics.gauge("process_start_time_seconds", "Start, in seconds since the epoch.", () => startedAt);
  metrics.gauge("process_open_fds", "Open file descriptors.", () => readdirSync("/proc/self/fd").length);
  metrics.gauge("nodejs_heap_size_used_bytes", "Heap that is used.", () => memoryUsage().heapUsed);
  metrics.gauge(
    "nodejs_external_memory_bytes",
    "Memory of buffers, outside the heap.",
    () => memoryUsage().external,
  );
}
