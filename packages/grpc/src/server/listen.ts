import { once } from "node:events";
import { chown, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { FailedPreconditionError } from "@oci-worker/errdefs";

/** Where a server takes connections. */
export type ListenAddress = UnixAddress | TcpAddress | InheritedAddress;

export interface UnixAddress {
  readonly path: string;
  /** Permission bits of the socket file: who may write to it may connect. */
  readonly mode: number;
  /** Group that owns the socket file; undefined leaves it the process's own. */
  readonly gid?: number;
}

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
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
 * @throws {FailedPreconditionError} if another process serves the socket.
 */
export async function listen(server: Server, address: ListenAddress): Promise<void> {
  if (!("path" in address)) {
    server.listen(address);
    await once(server, "listening");
    return;
  }
  const { path, mode, gid } = address;
  await removeStaleSocket(path);
  // bind(2) happens inside listen(), so the socket never exists with more permissions than it should have.
  const previous = process.umask(0o777 & ~mode);
  try {
    server.listen(path);
  } finally {
    process.umask(previous);
  }
  await once(server, "listening");
  if (gid !== undefined) {
    await chown(path, -1, gid);
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
