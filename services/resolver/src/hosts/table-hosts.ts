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

/** Of a registry that a client trusts whatever it shows (BuildKit, util/push). */
export const insecureEntry: RegistryEntry = { ...noSettings, insecure: true, http: true };

/**
 * The hosts that serve the registry `domain` as the table has it, in the order in which to try them: its mirrors, then
 * itself.
 *
 * How to connect to a mirror is said by the mirror's own entry of the table; nothing of the registry's entry is taken
 * over, as with BuildKit. Nothing is pushed to mirrors.
 */
export async function tableHosts(
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

/** How to connect to a host with an entry; undefined for the defaults of the system. */
export async function tlsSettings(entry: RegistryEntry): Promise<TlsSettings | undefined> {
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
