import { socket } from "../kinds.ts";
import { setting } from "../setting.ts";

/** Who is told what was done for a build, and how long it took. */
export const traceSettings = {
  traceSocketPath: setting(socket, {
    flag: "otel-socket-path",
    key: "otel.socketPath",
    fallback: undefined,
    unset: "ROOT/otel-grpc.sock",
    help: "socket on which steps send their spans (OpenTelemetry), which is shown to them as /dev/otel-grpc.sock",
  }),
};
