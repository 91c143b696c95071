import type { Message } from "@bufbuild/protobuf";
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
 * Writes one line for each call when it ends: `rpc`, `code`, `durationMs`, what `describe` says of the request, and `err`
 * or `reason` if it failed.
 *
 * A failure that is ours to mend is an error and carries the original with its stack; all else is debug.
 *
 * @param describe which fields of a request tell what it is about. Not its secrets: the lines are for everybody.
 */
export function logCalls(log: CallLog, describe: (request: Message) => object = nothing): CallObserver {
  return ({ rpc, durationMs, request }, thrown) => {
    const isDebug = log.isLevelEnabled("debug");
    if (thrown === undefined && !isDebug) {
      return;
    }
    const fields = (code: string) => ({
      rpc,
      code,
      durationMs: rounded(durationMs),
      ...(request && describe(request)),
    });
    if (thrown === undefined) {
      log.debug(fields("OK"), "call ended");
      return;
    }
    const { code, message } = statusOf(thrown);
    if (ourFault.has(code)) {
      log.error({ ...fields(Code[code]), err: thrown }, "call ended");
    } else if (isDebug) {
      log.debug({ ...fields(Code[code]), reason: message }, "call ended");
    }
  };
}

function nothing(): object {
  return {};
}

function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}
