import { ServiceError } from "@oci-worker/errdefs";
import type { Identity, Obstacle } from "./identity.ts";

/** What `find` gives; what it throws is an obstacle on the way, and not the end of it. */
export async function* found(
  find: () => Promise<readonly Identity[]>,
  signal: AbortSignal,
): AsyncGenerator<Identity | Obstacle> {
  try {
    yield* await find();
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ServiceError)) {
      throw error;
    }
    yield { obstacle: error };
  }
}
