import { writeSync } from "node:fs";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Logger, pino } from "pino";
import { logText } from "./log-text.ts";

const levels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** How lines of a log may look. */
export const logFormats = ["json", "text"] as const;
export type LogFormat = (typeof logFormats)[number];

/**
 * The log of a service, on standard output: one JSON object a line, `name` and `level` in each; or text for people.
 *
 * @throws {InvalidArgumentError} if `level` is no level of pino, or there is no such format.
 */
export function createLog(name: string, level: string, format = "json"): Logger {
  if (!logFormats.some((known) => known === format)) {
    throw new InvalidArgumentError(
      `Cannot log as ${JSON.stringify(format)}: want one of ${logFormats.join(", ")}`,
    );
  }
  if (!levels.some((known) => known === level)) {
    throw new InvalidArgumentError(
      `Cannot log at level ${JSON.stringify(level)}: want one of ${levels.join(", ")}`,
    );
  }
  // No pid and host name in every line: whoever collects the lines of a sidecar adds its own.
  const options = { name, level, base: { name } };
  // As pino does by itself, lines are written before the call returns: what a crash leaves is whole.
  const people = { write: (line: string) => void writeSync(1, logText(line)) };
  return format === "text" ? pino(options, people) : pino(options);
}
