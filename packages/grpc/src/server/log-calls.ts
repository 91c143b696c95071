import { Code } from "@connectrpc/connect";
import { statusOf } from "@oci-worker/errdefs/connect";
import type { CallObserver } from "./call.ts";

/** The part of a pino logger that is used here. */
export interface CallLog {
  isLevelEnabled(level: "debug"): boolean;
  debug(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Codes that say something about us, not about the request. */
const ourFault: ReadonlySet<Code> = new Set([Code.Internal, Code.DataLoss]);

/**
 * Writes one line for each call when it ends: `rpc`, `code`, `durationMs`, and `err` if it failed.
 *
 * A failure that is ours to mend is an error and carries the original with its stack; all else is debug.
 */
export function logCalls(log: CallLog): CallObserver {
  return ({ rpc, durationMs }, thrown) => {
    if (thrown === undefined) {
      if (log.isLevelEnabled("debug")) {
        log.debug({ rpc, code: "OK", durationMs: rounded(durationMs) }, "call ended");
      }
      return;
    }
    const { code, message } = statusOf(thrown);
    const fields = { rpc, code: Code[code], durationMs: rounded(durationMs) };
    if (ourFault.has(code)) {
      log.error({ ...fields, err: thrown }, "call ended");
    } else if (log.isLevelEnabled("debug")) {
      log.debug({ ...fields, reason: message }, "call ended");
    }
  };
}

function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}
