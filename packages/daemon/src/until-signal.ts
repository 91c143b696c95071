import type { Logger } from "pino";

/**
 * Resolves with the name of the first signal that asks this process to stop. A second one ends it at once.
 *
 * SIGHUP, by which daemons are told to read their settings anew, is answered in the log: it would end us without a word
 * otherwise, and calls in flight with us.
 */
export function untilSignal(log: Logger): Promise<NodeJS.Signals> {
  process.on("SIGHUP", () => log.warn({ signal: "SIGHUP" }, "settings are read at the start only"));
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.once(signal, resolve);
    }
  });
}
