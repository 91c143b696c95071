import { readFile } from "node:fs/promises";
import type { PassedSocket } from "@oci-worker/daemon/service-manager";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import type { ListenAddress } from "@oci-worker/grpc/serve";
import type { Config } from "./config/config.ts";

/** FileDescriptorName= of the socket that the resolver asks on; any other one is for clients. */
const sessionSocketName = "session";

/**
 * Where clients and the resolver reach the worker: sockets that it makes, and those that were passed to it.
 *
 * @param passed sockets of the service manager. As with buildkitd they take the place of `fd://`; one by the name
 *   "session" takes that of the session socket.
 * @throws {FailedPreconditionError} if `fd://` has no socket to stand for, or a socket nothing that stands for it.
 * @throws {NotFoundError} if there is no such group.
 */
export async function listenAddresses(
  { addresses, group, sessionSocketPath }: Pick<Config, "addresses" | "group" | "sessionSocketPath">,
  passed: readonly PassedSocket[],
): Promise<{ readonly control: ListenAddress[]; readonly sessions: ListenAddress[] }> {
  const sessions = passed.filter(({ name }) => name === sessionSocketName);
  const control = passed.filter(({ name }) => name !== sessionSocketName);
  const wantsPassed = addresses.includes("fd://");
  if (wantsPassed && control.length === 0) {
    throw new FailedPreconditionError(
      "Cannot listen on fd://: the service manager has passed no socket, want one or --addr unix://PATH",
    );
  }
  if (!wantsPassed && control.length > 0) {
    throw new FailedPreconditionError(
      `Cannot use socket ${control[0]?.boundTo} of the service manager: no address stands for it, want --addr fd://`,
    );
  }
  const gid = group === undefined ? undefined : await groupId(group);
  return {
    control: addresses.flatMap((address): readonly ListenAddress[] =>
      address === "fd://"
        ? control
        : [{ path: address.replace(/^unix:\/\//, ""), mode: 0o660, ...(gid !== undefined && { gid }) }],
    ),
    sessions: sessions.length > 0 ? sessions : [{ path: sessionSocketPath, mode: 0o600 }],
  };
}

/** The number of a group given by name or number (group(5)). */
async function groupId(group: string): Promise<number> {
  if (/^\d+$/.test(group)) {
    return Number(group);
  }
  const lines = (await readFile("/etc/group", "utf8")).split("\n");
  const [, , gid] = lines.map((line) => line.split(":")).find(([name]) => name === group) ?? [];
  if (gid === undefined) {
    throw new NotFoundError(
      `Cannot let group ${JSON.stringify(group)} connect: there is no such group, want a name in /etc/group or a number`,
    );
  }
  return Number(gid);
}
