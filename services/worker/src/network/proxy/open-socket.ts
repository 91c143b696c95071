import { Worker } from "node:worker_threads";
import { UnavailableError } from "@oci-worker/errdefs";
import { lastWordOf } from "@oci-worker/layer/last-word";
import { canLeaveNetworkNamespace, inNetworkNamespace } from "@oci-worker/libc/network-namespace";
import { makeSocket, type SocketUse } from "./make-socket.ts";

/** What a thread that makes a socket is told, and what it says. */
export interface SocketTask {
  readonly namespacePath: string;
  readonly use: SocketUse;
}
export type SocketOutcome =
  | { readonly kind: "made"; readonly fd: number }
  | { readonly kind: "failed"; readonly why: string };

/**
 * Opens a TCP socket of the network name space that is pinned at `namespacePath`. The caller closes it.
 *
 * This thread goes there and comes back. Where it could not come back, as a rootless worker in the host's network, another
 * one goes that ends there.
 *
 * @throws {UnavailableError} if it cannot be.
 */
export async function openSocketIn(namespacePath: string, use: SocketUse): Promise<number> {
  if (canLeaveNetworkNamespace()) {
    return inNetworkNamespace(namespacePath, () => makeSocket(use));
  }
  const workerData: SocketTask = { namespacePath, use };
  const thread = new Worker(new URL("./socket-thread.ts", import.meta.url), {
    name: "socket elsewhere",
    workerData,
  });
  const outcome = await lastWordOf<never, SocketOutcome>(thread, "open a socket in another network");
  if (outcome.kind === "failed") {
    throw new UnavailableError(`Cannot open a socket in another network: ${outcome.why}`);
  }
  return outcome.fd;
}
