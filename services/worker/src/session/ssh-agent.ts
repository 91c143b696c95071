import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { SSH } from "@oci-worker/api/session/ssh";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import { anySession } from "./any-session.ts";
import type { Session } from "./session.ts";
import type { SessionManager } from "./session-manager.ts";

/** The header by which a client knows which of its agents is meant (BuildKit, session/sshforward). */
const idHeader = "buildkit.ssh.id";

/** A client answers of itself whether it has an agent. */
const checkTimeoutMs = 30_000;

/**
 * The ssh agent `id` of the clients of a build.
 *
 * @param sessionIDs theirs.
 * @returns what passes a connection on to it.
 * @throws {FailedPreconditionError} in upstream's words if no client lends agents; what the client says if it has not this one.
 */
export async function findAgent(
  sessions: SessionManager,
  sessionIDs: readonly string[],
  id: string,
  signal: AbortSignal,
): Promise<(connection: Duplex) => void> {
  const check = async (session: Session, ends: AbortSignal) => {
    await createClient(SSH, session.channel).checkAgent(
      { ID: id },
      { signal: ends, timeoutMs: checkTimeoutMs },
    );
    return session;
  };
  try {
    const session = await anySession(sessions, sessionIDs, check, signal);
    return (connection) => void forward(session, id, connection);
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.Unimplemented) {
      throw new FailedPreconditionError(`no SSH key ${JSON.stringify(id)} forwarded from the client`);
    }
    throw fromConnectError(error);
  }
}

/** Passes bytes on in both directions until one side ends. What goes wrong, the other end sees as the end. */
async function forward({ channel, signal }: Session, id: string, connection: Duplex): Promise<void> {
  const closed = new AbortController();
  connection.once("close", () => closed.abort());
  const call = createClient(SSH, channel).forwardAgent(messagesOf(connection), {
    headers: { [idHeader]: id },
    signal: AbortSignal.any([closed.signal, signal]),
  });
  try {
    await pipeline(bytesOf(call), connection);
  } catch {
    connection.destroy();
  }
}

async function* messagesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<{ data: Uint8Array }> {
  for await (const data of chunks) {
    yield { data };
  }
}

async function* bytesOf(messages: AsyncIterable<{ data: Uint8Array }>): AsyncGenerator<Uint8Array> {
  for await (const { data } of messages) {
    yield data;
  }
}
