import { BlockList, isIP } from "node:net";
import { dockerHub } from "@oci-worker/oci/reference";

/** What a host may be asked for. A mirror that lags behind lacks `resolve`. */
export type Capability = "pull" | "resolve" | "push";

/** A registry endpoint: a blob is at `<scheme>://<host><path>/<repository>/blobs/<digest>`. */
export interface RegistryHost {
  readonly scheme: "http" | "https";
  /** Name or address, with `:port` if it has one. */
  readonly host: string;
  /** Prefix of every request's path, mostly `/v2`. Starts with a slash and ends with none; may be empty. */
  readonly path: string;
  readonly capabilities: readonly Capability[];
  /** For each request to this host, from the configuration. Never Authorization. */
  readonly headers?: Readonly<Record<string, readonly string[]>>;
  /** How to connect with https; absent for the defaults of the system. */
  readonly tls?: TlsSettings;
  /** If this is a mirror: the registry it stands in for, which is sent as the query parameter `ns`. */
  readonly upstreamNamespace?: string;
}

/** How to connect to a host with https. The files are PEM; they are read again when they have changed. */
export interface TlsSettings {
  /** Do not verify the certificate of the host. */
  readonly insecureSkipVerify?: boolean;
  /** Authorities to trust beside those of the system. */
  readonly caFiles?: readonly string[];
  /** Certificates to show to the host. */
  readonly keyPairs?: readonly KeyPair[];
}

/** A client certificate with its chain, and its private key. */
export interface KeyPair {
  readonly certFile: string;
  readonly keyFile: string;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/**
 * The host that serves the registry `domain` itself, as opposed to a mirror of it: `docker.io` is served elsewhere,
 * and a registry on this machine is spoken to in plain HTTP, as Docker and containerd do it.
 */
export function upstreamHost(domain: string): RegistryHost {
  return {
    scheme: isLoopback(domain) ? "http" : "https",
    host: domain === dockerHub ? "registry-1.docker.io" : domain,
    path: "/v2",
    capabilities: ["pull", "resolve", "push"],
  };
}

/** Whether `host`, with or without port, is this machine: `localhost` or a loopback address. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1");
  const family = isIP(name);
  return name === "localhost" || (family !== 0 && loopback.check(name, family === 4 ? "ipv4" : "ipv6"));
}
