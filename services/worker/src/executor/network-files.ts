import { chown, rename, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { Owner } from "@oci-worker/mounts/owner-map";
import type { NetworkNamespace } from "../network/network.ts";
import { readOrEmpty } from "../read-or-empty.ts";
import { defaultHostname } from "./oci-spec.ts";

/** `[dns]` of buildkitd.toml: each list replaces the host's own. */
export interface DnsSettings {
  readonly nameservers: readonly string[];
  readonly searchDomains: readonly string[];
  readonly options: readonly string[];
}

export interface ExtraHost {
  readonly host: string;
  readonly ip: string;
}

/** Resolvers for a host that has none of its own; the public ones that upstream falls back to. */
const fallbackNameservers = ["8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"];

/** Where systemd-resolved writes the real servers behind its stub. */
const resolvedPath = "/run/systemd/resolve/resolv.conf";

/** The host's resolv.conf; that of systemd-resolved if the host's only names its stub on loopback. */
export async function hostResolvConf(path = "/etc/resolv.conf", behindStub = resolvedPath): Promise<string> {
  const own = await readOrEmpty(path);
  const stubOnly = /^\s*nameserver\s+127\.0\.0\.53\s*$/m.test(own) && nameserversOf(own).every(isLoopback);
  return stubOnly ? (await readOrEmpty(behindStub)) || own : own;
}

/**
 * The resolv.conf of a step.
 *
 * A name server on the host's loopback is out of reach from another network name space and is left out there; a step
 * on the host's network keeps it. No server left: the public ones.
 */
export function stepResolvConf(host: string, dns: DnsSettings, network: NetworkNamespace): string {
  const usable = (server: string) => network === "host" || !isLoopback(server);
  const servers = dns.nameservers.length > 0 ? [...dns.nameservers] : nameserversOf(host).filter(usable);
  const search =
    dns.searchDomains.length > 0 ? dns.searchDomains.join(" ") : lastValue(host, "search|domain");
  const options = dns.options.length > 0 ? dns.options.join(" ") : lastValue(host, "options");
  return [
    ...(search ? [`search ${search}`] : []),
    ...(servers.length > 0 ? servers : fallbackNameservers).map((server) => `nameserver ${server}`),
    ...(options ? [`options ${options}`] : []),
    "",
  ].join("\n");
}

/** As the kernel takes it (sethostname(2)), and fit for a line of the hosts file. */
const hostnamePattern = /^[^\s\0]{1,64}$/;

/**
 * The hosts file of a step.
 *
 * @throws {InvalidArgumentError} for a name or an address that is none: each is a word of a line.
 */
export function stepHosts(hostname: string, extraHosts: readonly ExtraHost[]): string {
  if (hostname !== "" && !hostnamePattern.test(hostname)) {
    throw new InvalidArgumentError(
      `Cannot use ${JSON.stringify(hostname.slice(0, 200))} as hostname: want 1 to 64 characters without spaces`,
    );
  }
  for (const { host, ip } of extraHosts) {
    if (!/^\S+$/.test(host)) {
      throw new InvalidArgumentError(`Cannot use ${JSON.stringify(host)} as a host name: want one word`);
    }
    if (isIP(ip) === 0) {
      throw new InvalidArgumentError(`failed to parse IP ${JSON.stringify(ip)} of host ${host}`);
    }
  }
  return [
    `127.0.0.1\tlocalhost ${hostname || defaultHostname}`,
    "::1\tlocalhost ip6-localhost ip6-loopback",
    ...extraHosts.map(({ host, ip }) => `${ip}\t${host}`),
    "",
  ].join("\n");
}

/** Writes `content` to `name` in `directory`, owned by `owner`, so that a reader sees all of it or none. Returns its path. */
export async function writeWhole(
  directory: string,
  name: string,
  content: string,
  { uid, gid }: Owner,
): Promise<string> {
  const path = join(directory, name);
  await writeFile(`${path}.new`, content, { mode: 0o644 });
  await chown(`${path}.new`, uid, gid);
  await rename(`${path}.new`, path);
  return path;
}

function nameserversOf(text: string): string[] {
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, server = ""]) => server);
}

/** The value of the last line that starts with one of `keywords`; the last one counts (resolv.conf(5)). */
function lastValue(text: string, keywords: string): string {
  const lines = [...text.matchAll(new RegExp(`^\\s*(?:${keywords})\\s+(.*?)\\s*$`, "gm"))];
  return lines.at(-1)?.[1] ?? "";
}

function isLoopback(server: string): boolean {
  return server.startsWith("127.") || server === "::1";
}
