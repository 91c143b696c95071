import { sendUnixDatagram } from "@oci-worker/libc/socket";

/**
 * Tells the service manager of a change of state (sd_notify(3)), such as `READY=1` and `STOPPING=1`.
 *
 * Does nothing where no manager asked to be told.
 */
export function notifyManager(state: string, environment: NodeJS.ProcessEnv = process.env): void {
  const socket = environment["NOTIFY_SOCKET"];
  if (socket !== undefined && socket !== "") {
    sendUnixDatagram(socket, Buffer.from(state));
  }
}
