import { once } from "node:events";
import { closeSync, constants, openSync } from "node:fs";
import { chmod, lchown } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { AgentSocket } from "./step.ts";
import type { StepMountParts } from "./step-mounts.ts";

type AgentSocketParts = Pick<StepMountParts, "bundle" | "ids" | "undo">;

/**
 * Listens on a socket `name` in the bundle for the processes of a step, until `undo` ends every connection.
 *
 * @returns its path.
 */
export async function openAgentSocket(
  { owner, connect }: AgentSocket,
  name: string,
  { bundle: directory, ids, undo }: AgentSocketParts,
): Promise<string> {
  const { uid, gid } = ids.hostOwner(owner);
  const path = join(directory, name);
  const connections = new Set<Socket>();
  const server = createServer((connection) => {
    connections.add(connection);
    connection.once("close", () => connections.delete(connection));
    // Whoever reads it is told by `close`; a step that dies must not end the worker.
    connection.on("error", () => undefined);
    connect(connection);
  });
  // The address of a socket has 107 bytes at most (unix(7)), and our root may be longer.
  const directoryFd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  undo.defer(() => closeSync(directoryFd));
  server.listen(`/proc/self/fd/${directoryFd}/${name}`);
  await once(server, "listening");
  undo.defer(() => {
    server.close();
    for (const connection of connections) {
      connection.destroy();
    }
  });
  await lchown(path, uid, gid);
  await chmod(path, owner.mode);
  return path;
}
