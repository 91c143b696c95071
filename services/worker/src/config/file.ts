import { InvalidArgumentError } from "@oci-worker/errdefs";
import type { TomlTable, TomlValue } from "smol-toml";
import { type Setting, type SettingKind, type SettingName, type Settings, settings } from "./settings.ts";

/** What a buildkitd.toml says, as far as it concerns this worker. */
export interface ConfigFile {
  readonly values: Partial<Settings>;
  /** The table `[registry]`, which is the resolver's to understand. */
  readonly registry: TomlTable;
  /** Paths of keys that nothing here reads. Upstream ignores such keys in silence; we name them. */
  readonly unused: readonly string[];
}

const registryKey = "registry";

/** What a registry's table may say (buildkitd.toml.md, "registry"); the resolver refuses anything else. */
const registryKeys = ["mirrors", "http", "insecure", "ca", "keypair", "tlsconfigdir"];

/**
 * Reads `table`, a parsed buildkitd.toml.
 *
 * @param path of the file, for errors.
 * @throws {InvalidArgumentError} naming a key whose value has the wrong type.
 */
export function readConfigFile(table: TomlTable, path: string): ConfigFile {
  const values: Partial<Record<SettingName, Settings[SettingName]>> = {};
  const used = new Set<string>();
  for (const [name, setting] of Object.entries(settings) as [SettingName, Setting][]) {
    if (setting.toml === undefined) {
      continue;
    }
    used.add(setting.toml);
    const value = valueAt(table, setting.toml.split("."));
    if (value !== undefined) {
      values[name] = convert(setting, value, `${path}: ${setting.toml}`);
    }
  }
  const { registry, unused } = readRegistries(table[registryKey] ?? {}, path);
  return {
    values: values as Partial<Settings>,
    registry,
    unused: [...[...leafPaths(table, [])].filter((leaf) => !used.has(leaf)), ...unused],
  };
}

/** The tables of the registries without the keys that the resolver does not know, and the paths of those. */
function readRegistries(registries: TomlValue, path: string): Pick<ConfigFile, "registry" | "unused"> {
  if (!isTable(registries)) {
    throw new InvalidArgumentError(`Cannot read config ${path}: ${registryKey} is no table`);
  }
  const registry: TomlTable = {};
  const unused: string[] = [];
  for (const [host, settings] of Object.entries(registries)) {
    if (!isTable(settings)) {
      throw new InvalidArgumentError(`Cannot read config ${path}: ${registryKey}."${host}" is no table`);
    }
    const entries = Object.entries(settings);
    registry[host] = Object.fromEntries(entries.filter(([key]) => registryKeys.includes(key)));
    unused.push(
      ...entries
        .filter(([key]) => !registryKeys.includes(key))
        .map(([key]) => `${registryKey}."${host}".${key}`),
    );
  }
  return { registry, unused };
}

function valueAt(table: TomlTable, [key = "", ...rest]: readonly string[]): TomlValue | undefined {
  const value = Object.hasOwn(table, key) ? table[key] : undefined;
  if (rest.length === 0 || value === undefined) {
    return value;
  }
  return isTable(value) ? valueAt(value, rest) : undefined;
}

function convert(
  { kind }: { readonly kind: SettingKind },
  value: TomlValue,
  where: string,
): Settings[SettingName] {
  switch (kind) {
    case "text":
      // buildkitd has a few of them as a boolean in the file and as text on the command line.
      if (typeof value === "string" || typeof value === "boolean") {
        return String(value);
      }
      break;
    case "texts":
      if (Array.isArray(value) && value.every((each) => typeof each === "string")) {
        return value;
      }
      break;
    case "truth":
      if (typeof value === "boolean") {
        return value;
      }
      break;
    case "pairs":
      if (isTable(value) && Object.values(value).every((each) => typeof each === "string")) {
        return value as Readonly<Record<string, string>>;
      }
      break;
  }
  throw new InvalidArgumentError(`Cannot read config ${where} is of the wrong type, want ${wanted[kind]}`);
}

const wanted: Readonly<Record<SettingKind, string>> = {
  text: "a text",
  texts: "a list of texts",
  truth: "true or false",
  pairs: "a table of texts",
};

/** Paths of all values that are no tables; a table of names and values counts as one value. */
function* leafPaths(table: TomlTable, above: readonly string[]): Generator<string> {
  for (const [key, value] of Object.entries(table)) {
    const path = [...above, key];
    const name = path.join(".");
    const isPairs = Object.values(settings).some(
      (setting) => setting.toml === name && setting.kind === "pairs",
    );
    if (isTable(value) && !isPairs) {
      if (name !== registryKey) {
        yield* leafPaths(value, path);
      }
    } else {
      yield name;
    }
  }
}

function isTable(value: TomlValue): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}
