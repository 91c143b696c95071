import type { RegistryHost, TlsSettings } from "@oci-worker/registry/host";
import type { Access } from "../handle.ts";
import type { HostsDirectory } from "./hosts-directory.ts";
import type { RegistryTable } from "./registry-table.ts";
import { tableHosts, tlsSettings } from "./table-hosts.ts";

/**
 * Says who serves a registry, and how to connect to a host.
 *
 * A registry's entry of the table counts for all of it: it is our own setting. Without one its directory counts, which
 * says something to every program of the machine, or else `_default`; with neither the registry is asked itself.
 */
export class RegistryHosts {
  readonly #table: RegistryTable;
  readonly #directory: HostsDirectory | undefined;

  constructor(table: RegistryTable, directory?: HostsDirectory) {
    this.#table = table;
    this.#directory = directory;
  }

  /**
   * The hosts that serve the registry `domain`, in the order in which to try them.
   *
   * @throws {UnavailableError} naming the file of settings that cannot be used.
   */
  async of(domain: string, access: Access): Promise<RegistryHost[]> {
    const own = this.#table.has(domain) ? undefined : await this.#directory?.hostsFor(domain, access);
    return own ?? (await tableHosts(this.#table, domain, access));
  }

  /**
   * How to connect to `server`, which gives the tokens for a registry: as its own settings say, or else as to the
   * registry, whose client certificate only a server of the same name is shown.
   */
  async tokenServerTls(server: URL, registry: RegistryHost): Promise<TlsSettings | undefined> {
    const entry = this.#table.get(server.host);
    if (entry !== undefined) {
      return await tlsSettings(entry);
    }
    const own = await this.#directory?.serverTls(server.host);
    if (own !== undefined) {
      return own.tls;
    }
    if (registry.tls === undefined || nameOf(server.host) === nameOf(registry.host)) {
      return registry.tls;
    }
    const { keyPairs: _keyPairs, ...trust } = registry.tls;
    return trust;
  }
}

function nameOf(host: string): string {
  return host.replace(/:\d*$/, "");
}
