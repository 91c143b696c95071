import { createClient } from "@connectrpc/connect";
import { FileSend } from "@oci-worker/api/session/file-sync";
import { AlreadyExistsError, FailedPreconditionError } from "@oci-worker/errdefs";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import type { Session } from "../session/session.ts";

/** The method with which a client takes files. */
const sendMethod = "/moby.filesync.v1.FileSend/DiffCopy";

/** Begins the names of the headers that say what the file is (BuildKit, session/filesync). */
const metadataPrefix = "exporter-md-";

/**
 * The client that takes what is exported.
 *
 * @throws {FailedPreconditionError} if there is none, or it takes no files.
 */
export function requireFileTaker(session: Session | undefined): Session {
  if (session === undefined) {
    throw new FailedPreconditionError("Cannot export: the client has no session to send the result to");
  }
  if (!session.supports(sendMethod)) {
    throw new FailedPreconditionError(`method ${sendMethod} not supported by the client`);
  }
  return session;
}

/**
 * Sends a file to the client, which decides where it goes. It may also want none, and says that it has one already.
 *
 * @param metadata what the client is told of it beforehand.
 * @param onProgress told how many bytes have been sent.
 */
export async function sendFile(
  { channel }: Session,
  pieces: AsyncIterable<Uint8Array>,
  metadata: Readonly<Record<string, string>>,
  onProgress: (sentBytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const failed = new AbortController();
  async function* messages() {
    let sentBytes = 0;
    try {
      for await (const data of pieces) {
        yield { data };
        sentBytes += data.length;
        onProgress(sentBytes);
      }
    } catch (error) {
      // The call would only tell that it was canceled.
      failed.abort(error);
      throw error;
    }
  }
  const headers = Object.entries(metadata).map(([key, value]): [string, string] => [
    `${metadataPrefix}${key}`,
    value,
  ]);
  const ends = AbortSignal.any([signal, failed.signal]);
  try {
    const answers = createClient(FileSend, channel).diffCopy(messages(), { headers, signal: ends });
    // The client has the whole file when it ends the call.
    for await (const _ of answers) {
    }
  } catch (thrown) {
    failed.signal.throwIfAborted();
    const error = fromConnectError(thrown);
    if (!(error instanceof AlreadyExistsError)) {
      throw error;
    }
  }
}
