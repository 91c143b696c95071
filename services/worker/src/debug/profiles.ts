import { Session } from "node:inspector/promises";
import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { getHeapSnapshot } from "node:v8";
import { FailedPreconditionError } from "@oci-worker/errdefs";

/** The heap as Chrome's developer tools read it. The process stands still while it is taken. */
export function heapSnapshot(): Readable {
  return getHeapSnapshot();
}

let isProfiling = false;

/**
 * What the process has spent its processor time on for `seconds`, as Chrome's developer tools read it.
 *
 * @throws {FailedPreconditionError} if another profile is being taken.
 */
export async function cpuProfile(seconds: number, signal: AbortSignal): Promise<string> {
  if (isProfiling) {
    throw new FailedPreconditionError(
      "Cannot take a profile: another one is being taken, want to wait for it",
    );
  }
  isProfiling = true;
  const session = new Session();
  try {
    session.connect();
    await session.post("Profiler.enable");
    await session.post("Profiler.start");
    await delay(seconds * 1000, undefined, { signal });
    const { profile } = await session.post("Profiler.stop");
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
    isProfiling = false;
  }
}
