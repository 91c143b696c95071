import { NotFoundError } from "@oci-worker/errdefs";
import type { Session } from "./session.ts";
import type { SessionManager } from "./session-manager.ts";

/** A session that a build names is there or about to come. Upstream's number. */
const patienceMs = 5000;

/**
 * Asks the sessions of a build, one after the other, until one has an answer.
 *
 * @throws what the last one has failed with, or {@link NotFoundError} if there is none.
 */
export async function anySession<T>(
  sessions: SessionManager,
  ids: readonly string[],
  ask: (session: Session, signal: AbortSignal) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  let failure: unknown = new NotFoundError("no active sessions");
  for (const id of ids) {
    try {
      const session = await sessions.get(id, patienceMs, signal);
      return await ask(session, AbortSignal.any([signal, session.signal]));
    } catch (error) {
      signal.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}
