import { logFormats } from "@oci-worker/daemon/log";
import { directory, inAnyCase, oneOf, separated, textual, truth } from "../kinds.ts";
import { duration } from "../quantities.ts";
import { setting } from "../setting.ts";
import { tcpAddress } from "../tcp-address.ts";

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/** As logrus reads it, which is buildkitd's log: in capitals or not, and by its names, too. */
const logLevel = inAnyCase(
  oneOf(logLevels, { alias: { warning: "warn", panic: "fatal" }, operand: "LEVEL" }),
);

/** Where operators ask. */
const debugAddress = textual(
  "HOST:PORT",
  (value) => tcpAddress(value, "127.0.0.1:6060"),
  ({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`,
);

/** The program as such. */
export const generalSettings = {
  root: setting(directory, {
    flag: "root",
    key: "root",
    fallback: "/var/lib/oci-worker/worker",
    help: "directory of all state",
  }),
  stopTimeout: setting(duration, {
    flag: "stop-timeout",
    key: "stopTimeout",
    fallback: 10_000,
    help: "how long builds may go on when the worker is asked to end, before they are canceled",
  }),
  debug: setting(truth, { flag: "debug", key: "debug", fallback: false, help: "log at level debug" }),
  trace: setting(truth, {
    flag: "trace",
    key: "trace",
    fallback: false,
    help: "log at level trace",
  }),
  logLevel: setting(logLevel, {
    flag: "log-level",
    key: "log.level",
    variable: "BUILDKITD_LOG_LEVEL",
    fallback: "info",
    help: `least level that is logged: ${logLevels.join(", ")}`,
  }),
  logFormat: setting(oneOf(logFormats), {
    flag: "log-format",
    key: "log.format",
    fallback: "json",
    help: "how lines are logged: an object each, or text for people",
  }),
  logsDecisions: setting(truth, {
    variable: "BUILDKIT_SCHEDULER_DEBUG",
    fallback: false,
    help: "log what the solver decides of each vertex, and by which cache keys, at whatever level",
  }),
  logsDecisionsOf: setting(separated("NAMES"), {
    variable: "BUILDKIT_SCHEDULER_DEBUG_STEPS",
    fallback: [],
    help: "the same for vertices whose names have one of these parts, with commas between them; with ^ behind it, for those that need one, too",
  }),
  debugAddress: setting(debugAddress, {
    flag: "debugaddr",
    key: "grpc.debugAddress",
    variable: "BUILDKITD_DEBUGADDR",
    fallback: undefined,
    help: "HTTP address that gives /metrics, /healthz and profiles, such as 127.0.0.1:6060",
  }),
};
