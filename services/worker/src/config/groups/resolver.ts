import { socket } from "../kinds.ts";
import { setting } from "../setting.ts";

/** The resolver beside the worker, which buildkitd does not have. */
export const resolverSettings = {
  resolverAddress: setting(socket, {
    flag: "resolver-address",
    fallback: undefined,
    unset: "a resolver of its own",
    help: "socket of a resolver that runs already",
  }),
  sessionSocketPath: setting(socket, {
    flag: "session-address",
    fallback: undefined,
    unset: "ROOT/session.sock",
    help: "socket on which the resolver asks for credentials of sessions",
  }),
};
