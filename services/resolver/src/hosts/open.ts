import type { Logger } from "pino";
import type { Config } from "../config.ts";
import { FreshFile } from "../fresh-file.ts";
import { RegistryHosts } from "./hosts.ts";
import { HostsDirectory } from "./hosts-directory.ts";
import { parseRegistryTable, type RegistryTable } from "./registry-table.ts";
import { parseToml } from "./toml.ts";

/** Longest `buildkitd.toml` that is read, in bytes. */
const maxFileBytes = 1024 * 1024;

/** The settings of registries that `config` has or names. */
export function openHosts(
  { registry, buildkitdConfig, hostsDir }: Pick<Config, "registry" | "buildkitdConfig" | "hostsDir">,
  log: Logger,
): RegistryHosts {
  return new RegistryHosts({
    table: registry,
    buildkitd: buildkitdConfig === undefined ? undefined : registriesOf(buildkitdConfig, log),
    directory: hostsDir === undefined ? undefined : new HostsDirectory(hostsDir, log),
  });
}

/** The registries of a `buildkitd.toml`. What else it says is for the worker, which warns of what that does not know. */
function registriesOf(path: string, log: Logger): FreshFile<RegistryTable> {
  return new FreshFile(path, maxFileBytes, (bytes) => {
    const unknown: string[] = [];
    const table = parseRegistryTable(parseToml(bytes.toString("utf8"))["registry"], (key) =>
      unknown.push(key),
    );
    if (unknown.length > 0) {
      log.warn({ path, keys: unknown }, "keys that mean nothing here");
    }
    return table;
  });
}
