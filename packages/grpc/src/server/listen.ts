import { once } from "node:events";
import { chown, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { TlsSource } from "./tls-server.ts";

/** Where a server takes connections. */
export type ListenAddress = UnixAddress | TcpAddress | InheritedAddress;

export interface UnixAddress {
  readonly path: string;
  /** Permission bits of the socket file: who may write to it may connect. */
  readonly mode: number;
  /** User and group that own the socket file; undefined leaves them the process's own. */
  readonly uid?: number;
  readonly gid?: number;
}

export interface TcpAddress {
  /** Empty for every address of the machine. */
  readonly host: string;
  /** 0 for one that the kernel chooses. */
  readonly port: number;
  /** Undefined: what goes over it can be read and changed on its way. */
  readonly tls?: TlsSource;
}

/** A socket that the parent process has bound and listens on, as systemd's socket activation passes it. */
export interface InheritedAddress {
  readonly fd: number;
}

/**
 * Makes `server` listen on `address`.
 *
 * A socket file that a dead process left behind is replaced; one that somebody still serves is an error.
 *
 * @throws {FailedPreconditionError} if another process serves the socket, or there is no such address.
 */
export async function listen(server: Server, address: ListenAddress): Promise<void> {
  if (!("path" in address)) {
    await listening(server, address);
    return;
  }
  const { path, mode, uid, gid } = address;
  await removeStaleSocket(path);
  // bind(2) happens inside listen(), so the socket never exists with more permissions than it should have.
  const previous = process.umask(0o777 & ~mode);
  try {
    server.listen(path);
  } finally {
    process.umask(previous);
  }
  await once(server, "listening");
  if (uid !== undefined || gid !== undefined) {
    await chown(path, uid ?? -1, gid ?? -1);
  }
}

async function listening(server: Server, address: TcpAddress | InheritedAddress): Promise<void> {
  const tcp = "port" in address ? address : undefined;
  server.listen(tcp === undefined ? address : { port: tcp.port, ...(tcp.host !== "" && { host: tcp.host }) });
  try {
    await once(server, "listening");
  } catch (cause) {
    const where = tcp === undefined ? "the inherited socket" : `tcp://${tcp.host}:${tcp.port}`;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(
      `Cannot listen on ${where}: ${why}, want an address of this machine that is free`,
      { cause },
    );
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  switch (await probe(path)) {
    case "absent":
      return;
    case "stale":
      await unlink(path);
      return;
    case "served":
      throw new FailedPreconditionError(
        `Cannot listen on ${path}: another process serves this socket, want a path of its own or the other one stopped`,
      );
  }
}

/** Whether anybody answers on the socket file `path`. */
function probe(path: string): Promise<"absent" | "stale" | "served"> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.on("connect", () => {
      socket.destroy();
      resolve("served");
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      switch (error.code) {
        case "ENOENT":
          return resolve("absent");
        case "ECONNREFUSED":
          return resolve("stale");
        default:
          reject(new FailedPreconditionError(`Cannot listen on ${path}: ${error.message}`, { cause: error }));
      }
    });
  });
}
