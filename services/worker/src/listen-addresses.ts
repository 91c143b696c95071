import { readFile } from "node:fs/promises";
import type { PassedSocket } from "@oci-worker/daemon/service-manager";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import type { ListenAddress } from "@oci-worker/grpc/serve";
import type { Logger } from "pino";
import type { Config } from "./config/config.ts";
import { tcpAddress } from "./config/tcp-address.ts";
import { TlsFiles } from "./tls-files.ts";

/** FileDescriptorName= of the socket that the resolver asks on; any other one is for clients. */
const sessionSocketName = "session";

type ListenConfig = Pick<
  Config,
  "addresses" | "group" | "sessionSocketPath" | "socketOwner" | "tlsCa" | "tlsCert" | "tlsKey"
>;

/**
 * Where clients and the resolver reach the worker: sockets that it makes, and those that were passed to it.
 *
 * @param passed sockets of the service manager. As with buildkitd they take the place of `fd://`; one by the name
 *   "session" takes that of the session socket.
 * @throws {FailedPreconditionError} if `fd://` has no socket to stand for, or a socket nothing that stands for it.
 * @throws {NotFoundError} if there is no such group.
 * @throws {InvalidArgumentError} if there is no such certificate or key, or they do not go together.
 */
export async function listenAddresses(
  config: ListenConfig,
  passed: readonly PassedSocket[],
  log: Logger,
): Promise<{ readonly control: ListenAddress[]; readonly sessions: ListenAddress[] }> {
  const { addresses, group, sessionSocketPath, socketOwner } = config;
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
  const tls = serverTls(config, log);
  if (tls !== undefined && !addresses.some(isTcp)) {
    log.warn({ addresses }, "certificate is not used: it is for tcp:// addresses, and there is none");
  }
  const owner = {
    ...(socketOwner !== undefined && { uid: socketOwner }),
    ...(group !== undefined && { gid: await groupId(group) }),
  };
  const listenAddress = (address: string): readonly ListenAddress[] => {
    if (address === "fd://") {
      return control;
    }
    if (!isTcp(address)) {
      return [{ path: address.replace(/^unix:\/\//, ""), mode: 0o660, ...owner }];
    }
    if (tls === undefined || config.tlsCa === undefined) {
      log.warn(
        { address },
        "whoever reaches this address may build here: want --tlscert, --tlskey and --tlscacert",
      );
    }
    return [{ ...tcpAddress(address), ...(tls && { tls: tls.current }) }];
  };
  return {
    control: addresses.flatMap(listenAddress),
    sessions: sessions.length > 0 ? sessions : [{ path: sessionSocketPath, mode: 0o600 }],
  };
}

function isTcp(address: string): boolean {
  return address.startsWith("tcp://");
}

/** What proves to clients who we are, and the other way round; undefined if there is to be no TLS. */
function serverTls({ tlsCert, tlsKey, tlsCa }: ListenConfig, log: Logger): TlsFiles | undefined {
  return tlsCert === undefined || tlsKey === undefined
    ? undefined
    : new TlsFiles({ tlsCert, tlsKey, tlsCa }, log);
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
