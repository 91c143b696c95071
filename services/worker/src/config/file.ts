import { InvalidArgumentError } from "@oci-worker/errdefs";
import { nearest } from "@oci-worker/nearest";
import type { TomlTable, TomlValue } from "smol-toml";
import { isTable } from "./kind.ts";
import { readRegistries, registryKey } from "./registries.ts";
import { readToml, underFormerName, warningsOf } from "./say.ts";
import type { Setting } from "./setting.ts";
import { allSettings, type Layer, type Saying, type SettingName } from "./settings.ts";
import { tomlKey } from "./show.ts";
import { unsupportedKeys } from "./unsupported.ts";

/** What a buildkitd.toml says, as far as it concerns this worker. */
export interface ConfigFile {
  readonly layer: Layer;
  /** The table `[registry]`, which is the resolver's to understand. */
  readonly registry: TomlTable;
  /** Keys that nothing here reads: upstream ignores them in silence, we name them. */
  readonly unused: readonly UnusedKey[];
  /** What else the operator should know. */
  readonly warnings: readonly string[];
}

export interface UnusedKey {
  readonly key: string;
  /** The key that may have been meant. */
  readonly meant: string | undefined;
}

interface KeyTarget {
  readonly name: SettingName;
  readonly setting: Setting;
  /** What the key is called now. */
  readonly now: string | undefined;
}

/** In the order of precedence: a setting's present name comes before its former ones. */
const byKey = new Map<string, KeyTarget>(allSettings.flatMap(([name, setting]) => keysOf(name, setting)));

function keysOf(name: SettingName, setting: Setting): [string, KeyTarget][] {
  const { key, flag, former = [] } = setting;
  const present: [string, KeyTarget][] = key === undefined ? [] : [[key, { name, setting, now: undefined }]];
  const now = key ?? `--${flag}`;
  return [
    ...present,
    ...former.flatMap(({ key: old, kind }): [string, KeyTarget][] =>
      old === undefined ? [] : [[old, { name, setting: underFormerName(setting, kind), now }]],
    ),
  ];
}

/** All that we have something to say of. */
const knownKeys: readonly string[] = [...byKey.keys(), ...unsupportedKeys.keys()];

/** Settings of buildkitd's other worker, which this program is not: whether it is on is all that matters. */
const otherWorker = "worker.containerd.";

/**
 * Reads `table`, a parsed buildkitd.toml.
 *
 * @param path of the file, for errors.
 * @throws {InvalidArgumentError} naming a key with a wrong value, and what is wanted.
 */
export function readConfigFile(table: TomlTable, path: string): ConfigFile {
  const layer = new Map<SettingName, Saying>();
  const warnings: string[] = [];
  for (const [key, { name, setting, now }] of byKey) {
    const value = valueAt(table, key.split("."));
    if (value === undefined) {
      continue;
    }
    const origin = `${key} of ${path}`;
    const read = readToml(setting, value, origin);
    if (now !== undefined) {
      warnings.push(
        layer.has(name) ? `${key} is left out, since ${now} is there` : `${key} is now called ${now}`,
      );
    }
    warnings.push(...(setting.kind.warningsOf?.(value) ?? []).map((warning) => `${key}: ${warning}`));
    if (!layer.has(name)) {
      layer.set(name, { value: read, origin });
    }
  }
  const { registry, unused } = readRegistries(table[registryKey] ?? {}, path);
  return { layer, registry, unused: [...unusedKeys(table, [], path, warnings), ...unused], warnings };
}

function valueAt(table: TomlTable, [key = "", ...rest]: readonly string[]): TomlValue | undefined {
  const value = Object.hasOwn(table, key) ? table[key] : undefined;
  if (rest.length === 0 || value === undefined) {
    return value;
  }
  return isTable(value) ? valueAt(value, rest) : undefined;
}

/**
 * The keys of `table` that no setting reads.
 *
 * @param warnings takes what is to be said of those that buildkitd would read.
 * @throws {InvalidArgumentError} for a value where a table is wanted, or of the wrong kind for what buildkitd would read.
 */
function* unusedKeys(
  table: TomlTable,
  above: readonly string[],
  path: string,
  warnings: string[],
): Generator<UnusedKey> {
  for (const [key, value] of Object.entries(table)) {
    const names = [...above, tomlKey(key)];
    const name = names.join(".");
    const target = byKey.get(name);
    const unsupported = unsupportedKeys.get(name);
    if (target !== undefined) {
      const { unusedKeys: unusedOf, knownKeys = [] } = target.setting.kind;
      for (const inner of unusedOf?.(value) ?? []) {
        yield { key: `${name}.${inner}`, meant: nearest(inner, knownKeys) };
      }
    } else if (name === registryKey || name.startsWith(otherWorker)) {
      // Read elsewhere, or not meant for us.
    } else if (unsupported !== undefined) {
      const origin = `${name} of ${path}`;
      warnings.push(...warningsOf(unsupported, readToml(unsupported, value, origin), origin));
    } else if (isTable(value)) {
      yield* unusedKeys(value, names, path, warnings);
    } else if (knownKeys.some((known) => known.startsWith(`${name}.`))) {
      throw new InvalidArgumentError(`Cannot use ${name} of ${path}: it is no table, want [${name}]`);
    } else {
      yield { key: name, meant: nearestKey(name) };
    }
  }
}

/** The key most like `name`: one of the same table if there is one, else one with the same last part. */
function nearestKey(name: string): string | undefined {
  const [table, last] = splitKey(name);
  const besides = knownKeys.filter((key) => splitKey(key)[0] === table);
  const meant = nearest(
    last,
    besides.map((key) => splitKey(key)[1]),
  );
  if (meant !== undefined) {
    return table === "" ? meant : `${table}.${meant}`;
  }
  return knownKeys.find((key) => splitKey(key)[1] === last) ?? nearest(name, knownKeys);
}

function splitKey(key: string): [table: string, last: string] {
  const dot = key.lastIndexOf(".");
  return [key.slice(0, Math.max(0, dot)), key.slice(dot + 1)];
}
