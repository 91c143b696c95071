import type { RegistryHost, TlsSettings } from "@oci-worker/registry/host";
import type { FreshFile } from "../fresh-file.ts";
import type { Access } from "../handle.ts";
import type { HostsDirectory } from "./hosts-directory.ts";
import type { RegistryTable } from "./registry-table.ts";
import { insecureEntry, tableHosts, tlsSettings } from "./table-hosts.ts";

/** Where settings of registries stand. */
export interface HostSettings {
  /** Our own. */
  readonly table: RegistryTable;
  /** Those of a `buildkitd.toml`. */
  readonly buildkitd?: FreshFile<RegistryTable> | undefined;
  readonly directory?: HostsDirectory | undefined;
}

/**
 * Says who serves a registry, and how to connect to a host.
 *
 * A registry's entry of a table counts for all of it, ours before BuildKit's. Without one its directory counts, which says
 * something to every program of the machine, or else `_default`; with neither the registry is asked itself.
 */
export class RegistryHosts {
  readonly #settings: HostSettings;
  #joined: { readonly buildkitd: RegistryTable; readonly table: RegistryTable } | undefined;

  constructor(settings: HostSettings) {
    this.#settings = settings;
  }

  /**
   * The hosts that serve the registry `domain`, in the order in which to try them.
   *
   * @throws {UnavailableError} naming the file of settings that cannot be used.
   */
  async of(domain: string, access: Access): Promise<RegistryHost[]> {
    if (access === "insecure-push") {
      return await tableHosts(new Map([[domain, insecureEntry]]), domain, access);
    }
    const table = await this.#table();
    const found = table.has(domain) ? undefined : await this.#settings.directory?.hostsFor(domain, access);
    return found ?? (await tableHosts(table, domain, access));
  }

  /**
   * How to connect to `server`, which gives the tokens for a registry: as its own settings say, or else as to the
   * registry, whose client certificate only a server of the same name is shown.
   */
  async tokenServerTls(server: URL, registry: RegistryHost): Promise<TlsSettings | undefined> {
    const entry = (await this.#table()).get(server.host);
    if (entry !== undefined) {
      return await tlsSettings(entry);
    }
    const own = await this.#settings.directory?.serverTls(server.host);
    if (own !== undefined) {
      return own.tls;
    }
    if (registry.tls === undefined || nameOf(server.host) === nameOf(registry.host)) {
      return registry.tls;
    }
    const { keyPairs: _keyPairs, ...trust } = registry.tls;
    return trust;
  }

  /** Both tables as one, joined anew when the file has changed. */
  async #table(): Promise<RegistryTable> {
    const { table, buildkitd: file } = this.#settings;
    const buildkitd = await file?.read();
    if (buildkitd === undefined) {
      return table;
    }
    if (this.#joined?.buildkitd !== buildkitd) {
      this.#joined = { buildkitd, table: new Map([...buildkitd, ...table]) };
    }
    return this.#joined.table;
  }
}

function nameOf(host: string): string {
  return host.replace(/:\d*$/, "");
}
