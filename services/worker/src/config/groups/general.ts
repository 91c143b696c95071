import { directory, oneOf, truth } from "../kinds.ts";
import { setting } from "../setting.ts";

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** The program as such. */
export const generalSettings = {
  root: setting(directory, {
    flag: "root",
    key: "root",
    fallback: "/var/lib/oci-worker/worker",
    help: "directory of all state",
  }),
  debug: setting(truth, { flag: "debug", key: "debug", fallback: false, help: "log at level debug" }),
  logLevel: setting(oneOf(logLevels, { alias: { warning: "warn", panic: "fatal" }, operand: "LEVEL" }), {
    flag: "log-level",
    key: "log.level",
    variable: "BUILDKITD_LOG_LEVEL",
    fallback: "info",
    help: `least level that is logged: ${logLevels.join(", ")}`,
  }),
};
