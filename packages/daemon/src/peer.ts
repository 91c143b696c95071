import type { Socket } from "node:net";
import { peerCredentials } from "@oci-worker/libc/socket";

/**
 * Refuses connections of other users than this process's own and root: for sockets over which credentials go.
 *
 * The mode of the socket file says the same; this holds also where a directory or a mount has loosened it.
 *
 * @returns why the connection is refused, or undefined if it may stay.
 */
export function refuseOtherUsers(socket: Socket): string | undefined {
  const fd = descriptorOf(socket);
  if (fd === undefined) {
    return "the kernel does not say who connects";
  }
  const { uid, pid } = peerCredentials(fd);
  const own = process.getuid?.();
  return uid === own || uid === 0
    ? undefined
    : `process ${pid} of user ${uid} may not connect, only user ${own}`;
}

/** Node offers no way to the descriptor of a connection but its handle. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
