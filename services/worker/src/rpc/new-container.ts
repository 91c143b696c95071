import { isIP } from "node:net";
import type { NewContainerRequest } from "@oci-worker/api/buildkit/llb-bridge";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { refuseZeroBytes } from "@oci-worker/llb/zero-bytes";
import type { NewContainer } from "../containers/build-containers.ts";

/** Clients make up ids of 25 characters. */
const maxIdLength = 256;

/** @throws {InvalidArgumentError} if the name of the container, an address or a host is none. */
export function newContainer(request: NewContainerRequest): NewContainer {
  const { ContainerID: id, Mounts, Network, platform, extraHosts, hostname } = request;
  if (id === "" || id.length > maxIdLength) {
    throw new InvalidArgumentError(
      `Cannot make a container with an id of ${id.length} characters: want 1 to ${maxIdLength}`,
    );
  }
  const paths = Mounts.flatMap(({ dest, selector }) => [dest, selector]);
  refuseZeroBytes(`Cannot make container ${JSON.stringify(id)}`, [hostname, ...paths]);
  return {
    id,
    mounts: Mounts,
    network: Network,
    hostname,
    extraHosts: extraHosts.map(({ Host, IP }) => extraHost(Host, IP)),
    os: platform?.OS || "linux",
  };
}

function extraHost(host: string, ip: string) {
  if (isIP(ip) === 0) {
    throw new InvalidArgumentError(`failed to parse IP ${ip.slice(0, 100)}, want an IPv4 or IPv6 address`);
  }
  if (!/^\S+$/.test(host)) {
    throw new InvalidArgumentError(`Cannot add host ${JSON.stringify(host.slice(0, 300))}: want a name`);
  }
  return { host, ip };
}
