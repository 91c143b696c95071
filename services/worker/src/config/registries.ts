import { InvalidArgumentError } from "@oci-worker/errdefs";
import { nearest } from "@oci-worker/nearest";
import type { TomlTable, TomlValue } from "smol-toml";
import type { UnusedKey } from "./file.ts";
import { isTable } from "./kind.ts";

export const registryKey = "registry";

/** What a registry's table may say (buildkitd.toml.md, "registry"); the resolver refuses anything else. */
const registryKeys = ["mirrors", "http", "insecure", "ca", "keypair", "tlsconfigdir"];

/**
 * The tables of the registries without the keys that the resolver does not know, and those keys.
 *
 * @param path of the file, for errors.
 * @throws {InvalidArgumentError} if one is no table. What is in one is the resolver's to check.
 */
export function readRegistries(
  registries: TomlValue,
  path: string,
): { readonly registry: TomlTable; readonly unused: UnusedKey[] } {
  if (!isTable(registries)) {
    throw new InvalidArgumentError(
      `Cannot use ${registryKey} of ${path}: it is no table, want [registry."HOST"]`,
    );
  }
  const registry: TomlTable = {};
  const unused: UnusedKey[] = [];
  for (const [host, settings] of Object.entries(registries)) {
    const name = `${registryKey}.${JSON.stringify(host)}`;
    if (!isTable(settings)) {
      throw new InvalidArgumentError(`Cannot use ${name} of ${path}: it is no table, want [${name}]`);
    }
    const entries = Object.entries(settings);
    registry[host] = Object.fromEntries(entries.filter(([key]) => registryKeys.includes(key)));
    unused.push(
      ...entries
        .filter(([key]) => !registryKeys.includes(key))
        .map(([key]) => ({ key: `${name}.${key}`, meant: nearest(key, registryKeys) })),
    );
  }
  return { registry, unused };
}
