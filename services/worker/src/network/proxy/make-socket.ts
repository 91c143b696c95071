import { closeSync } from "node:fs";
import { bindToLoopback, openTcpSocket, turnLoopbackOn } from "@oci-worker/libc/network-namespace";

/** What a TCP socket is for: to listen on the loopback device, or to connect to an address of IPv4 or IPv6. */
export type SocketUse = "listen" | "connect 4" | "connect 6";

/** A socket of the name space that the thread is in; to listen, where its loopback device is turned on for it. */
export function makeSocket(use: SocketUse): number {
  const fd = openTcpSocket(use === "connect 6" ? 6 : 4);
  try {
    if (use === "listen") {
      turnLoopbackOn(fd);
      bindToLoopback(fd);
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
