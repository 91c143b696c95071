import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Secrets } from "@oci-worker/api/session/secrets";
import { NotFoundError } from "@oci-worker/errdefs";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import { anySession } from "./any-session.ts";
import type { Session } from "./session.ts";
import type { SessionManager } from "./session-manager.ts";

/** A client that is asked for a secret may have to ask a person. */
const secretTimeoutMs = 60_000;

/**
 * The secret `id` of the clients of a build.
 *
 * @param sessionIDs theirs.
 * @throws {NotFoundError} in upstream's words if none of them has it.
 */
export async function findSecret(
  sessions: SessionManager,
  sessionIDs: readonly string[],
  id: string,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const ask = async ({ channel }: Session, ends: AbortSignal) => {
    const client = createClient(Secrets, channel);
    const { data } = await client.getSecret({ ID: id }, { signal: ends, timeoutMs: secretTimeoutMs });
    return data;
  };
  try {
    return await anySession(sessions, sessionIDs, ask, signal);
  } catch (error) {
    if (
      error instanceof NotFoundError ||
      (error instanceof ConnectError && (error.code === Code.NotFound || error.code === Code.Unimplemented))
    ) {
      throw new NotFoundError(`secret ${id}: not found`, { cause: error });
    }
    throw fromConnectError(error);
  }
}
