import { FailedPreconditionError } from "@oci-worker/errdefs";
import { closeOnExec, type SocketKind, sendUnixDatagram, socketKind } from "@oci-worker/libc/socket";
import type { Logger } from "pino";

/** A listening unix socket that the service manager has made, and keeps while this process is away. */
export interface PassedSocket {
  readonly fd: number;
  /** FileDescriptorName= of its unit; that of the unit itself, or "unknown", where there is none. */
  readonly name: string;
  /** What it is bound to. */
  readonly boundTo: string;
}

/** The first descriptor that is passed (SD_LISTEN_FDS_START of sd_listen_fds(3)). */
const firstPassed = 3;

/** More sockets than any unit of ours has: a number beyond is a mistake. */
const maxPassed = 64;

/**
 * The sockets that the service manager passes to this very process: systemd's socket activation (sd_listen_fds(3)).
 *
 * A socket that somebody else holds refuses nobody while we restart: who connects waits. Takes the variables out of
 * `environment`, and keeps the sockets from programs that are started later: none of them is meant.
 *
 * @throws {FailedPreconditionError} if what is passed are no unix sockets that listen.
 */
export function passedSockets(environment: NodeJS.ProcessEnv): PassedSocket[] {
  const { LISTEN_PID: pid, LISTEN_FDS: count = "", LISTEN_FDNAMES: names = "" } = environment;
  if (pid !== String(process.pid)) {
    // Meant for one of those that have started us, or for nobody.
    return [];
  }
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) {
    delete environment[name];
  }
  if (!/^[0-9]{1,3}$/.test(count) || Number(count) > maxPassed) {
    throw new FailedPreconditionError(
      `Cannot take sockets of the service manager: LISTEN_FDS is ${JSON.stringify(count)}, want a number up to ${maxPassed}`,
    );
  }
  const byPosition = names.split(":");
  return Array.from({ length: Number(count) }, (_, index) => {
    const fd = firstPassed + index;
    closeOnExec(fd);
    return { fd, name: byPosition[index] || "unknown", boundTo: requireListening(fd).path };
  });
}

function requireListening(fd: number): SocketKind {
  let problem: string;
  try {
    const kind = socketKind(fd);
    if (kind.isUnix && kind.isStream && kind.isListening) {
      return kind;
    }
    problem = "it is a socket of another kind";
  } catch (cause) {
    problem = cause instanceof Error ? cause.message : String(cause);
  }
  throw new FailedPreconditionError(
    `Cannot take descriptor ${fd} of the service manager: ${problem}, want a ListenStream= with a path`,
  );
}

/**
 * Tells the service manager of a change of state (sd_notify(3)), such as `READY=1` and `STOPPING=1`.
 *
 * Does nothing where no manager asked to be told. One that cannot be told is logged: that we serve matters more.
 */
export function notifyManager(
  state: string,
  log: Logger,
  environment: NodeJS.ProcessEnv = process.env,
): void {
  const socket = environment["NOTIFY_SOCKET"];
  if (socket === undefined || socket === "") {
    return;
  }
  try {
    sendUnixDatagram(socket, Buffer.from(state));
  } catch (err) {
    log.warn({ state, socket, err }, "service manager cannot be told");
  }
}
