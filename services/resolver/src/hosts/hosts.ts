import { isLoopback, type RegistryHost, type TlsSettings, upstreamHost } from "@oci-worker/registry/host";
import type { Access } from "../handle.ts";
import type { RegistryEntry, RegistryTable } from "./registry-table.ts";
import { readTlsConfigDirs } from "./tls-config-dir.ts";

const noSettings: RegistryEntry = {
  mirrors: [],
  insecure: false,
  caFiles: [],
  keyPairs: [],
  tlsConfigDirs: [],
};

/**
 * The hosts that serve the registry `domain`, in the order in which to try them: its mirrors, then itself.
 *
 * How to connect to a mirror is said by the mirror's own entry of the table; nothing of the registry's entry is taken
 * over, as with BuildKit. Nothing is pushed to mirrors.
 */
export async function hostsFor(
  table: RegistryTable,
  domain: string,
  access: Access,
): Promise<RegistryHost[]> {
  const entry = table.get(domain) ?? noSettings;
  const hosts: RegistryHost[] = [];
  if (access === "pull") {
    for (const { host, path } of entry.mirrors) {
      const mirror: RegistryHost = {
        scheme: "https",
        host,
        path: `/v2${path}`,
        capabilities: ["pull", "resolve"],
        upstreamNamespace: domain,
      };
      hosts.push(...(await connections(mirror, table.get(host) ?? noSettings)));
    }
  }
  hosts.push(...(await connections(upstreamHost(domain), entry)));
  return hosts;
}

/**
 * How to connect to `server`, which gives the tokens for a registry: as its own entry says, or else as to the registry,
 * whose client certificate only a server of the same name is shown.
 */
export async function tokenServerTls(
  table: RegistryTable,
  server: URL,
  registry: RegistryHost,
): Promise<TlsSettings | undefined> {
  const own = table.get(server.host);
  if (own !== undefined) {
    return await tlsSettings(own);
  }
  if (registry.tls === undefined || nameOf(server.host) === nameOf(registry.host)) {
    return registry.tls;
  }
  const { keyPairs: _keyPairs, ...trust } = registry.tls;
  return trust;
}

function nameOf(host: string): string {
  return host.replace(/:\d*$/, "");
}

/** The ways to connect to `host`: where both are allowed, HTTPS with any certificate is tried before plain HTTP. */
async function connections(host: RegistryHost, entry: RegistryEntry): Promise<RegistryHost[]> {
  const tls = await tlsSettings(entry);
  const secure: RegistryHost = { ...host, scheme: "https", ...(tls && { tls }) };
  const plain: RegistryHost = { ...host, scheme: "http" };
  if (!(entry.http ?? isLoopback(host.host))) {
    return [secure];
  }
  return entry.insecure ? [secure, plain] : [plain];
}

async function tlsSettings(entry: RegistryEntry): Promise<TlsSettings | undefined> {
  const found = await readTlsConfigDirs(entry.tlsConfigDirs);
  const caFiles = [...entry.caFiles, ...found.caFiles];
  const keyPairs = [...entry.keyPairs, ...found.keyPairs];
  const settings = {
    ...(entry.insecure && { insecureSkipVerify: true }),
    ...(caFiles.length > 0 && { caFiles }),
    ...(keyPairs.length > 0 && { keyPairs }),
  };
  return Object.keys(settings).length > 0 ? settings : undefined;
}
