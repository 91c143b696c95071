import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Health } from "@oci-worker/api/grpc/health";
import type { Session } from "./session.ts";

/** The pace and patience of BuildKit's own check of its clients. */
const intervalMs = 5000;
const defaultTimeoutMs = 15_000;

/** A client under load may miss one check. */
const failuresAllowed = 1;

/**
 * Asks the client of `session` every few seconds whether it is there.
 *
 * @returns the last error when too many checks in a row have failed, or undefined when the session has ended by itself.
 */
export async function checkHealth(session: Session): Promise<unknown> {
  const health = createClient(Health, session.channel);
  const timeoutMs = session.healthTimeoutMs ?? defaultTimeoutMs;
  let failures = 0;
  while (await pause(session.signal)) {
    try {
      await health.check({}, { timeoutMs, signal: session.signal });
      failures = 0;
    } catch (error) {
      if (session.signal.aborted) {
        return undefined;
      }
      failures += 1;
      if (failures > failuresAllowed) {
        return error;
      }
    }
  }
  return undefined;
}

/** Waits for the next check; false if the session ends first. */
async function pause(signal: AbortSignal): Promise<boolean> {
  try {
    await delay(intervalMs, undefined, { signal, ref: false });
    return true;
  } catch (error) {
    if (signal.aborted) {
      return false;
    }
    throw error;
  }
}
