import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Logger, pino } from "pino";

const levels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/**
 * The log of a service: one JSON object a line on standard output, `name` and `level` in each.
 *
 * @throws {InvalidArgumentError} if `level` is no level of pino.
 */
export function createLog(name: string, level: string): Logger {
  if (!levels.some((known) => known === level)) {
    throw new InvalidArgumentError(
      `Cannot log at level ${JSON.stringify(level)}: want one of ${levels.join(", ")}`,
    );
  }
  // No pid and host name in every line: whoever collects the lines of a sidecar adds its own.
  return pino({ name, level, base: { name } });
}
