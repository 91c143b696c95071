import { ConnectionError } from "../http2/protocol.ts";

/** The part of a pino logger that is used here. */
export interface ConnectionLog {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Told why we have ended a connection: a `ConnectionError` if its client is to blame, anything else is a mistake of ours. */
export type ConnectionObserver = (thrown: unknown) => void;

/** Writes a line for each connection that we have ended, because its client broke the protocol or did too much. */
export function logConnections(log: ConnectionLog): ConnectionObserver {
  return (thrown) => {
    if (thrown instanceof ConnectionError) {
      log.warn({ reason: thrown.message }, "connection ended");
    } else {
      log.error({ err: thrown }, "connection failed");
    }
  };
}
