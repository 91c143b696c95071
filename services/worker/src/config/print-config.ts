import type { TomlTable } from "smol-toml";
import type { Resolved } from "./config.ts";
import { registryKey } from "./registries.ts";
import type { Setting } from "./setting.ts";
import { allSettings, type SettingName } from "./settings.ts";
import { defaultText, inlineToml, tomlKey } from "./show.ts";

/** Where the origins begin if the values leave room, in columns. */
const originColumn = 52;

/**
 * Every setting with its value and where that comes from, as a buildkitd.toml that would say the same. What is not set,
 * and what only a flag can set, is a comment.
 *
 * @param file that was read, if it is there.
 */
export function printConfig({ config, origins }: Resolved, registry: TomlTable, file: string): string {
  const ofFile = ` of ${file}`;
  const line = ([name, setting]: [SettingName, Setting], key: string): string =>
    withOrigin(
      assignment(setting, key, config[name]),
      origins.get(name)?.replace(ofFile, " of the file") ?? "",
    );
  const keyed = allSettings.filter(([, { key }]) => key !== undefined);
  const tables = Map.groupBy(keyed, ([, { key = "" }]) => key.slice(0, Math.max(0, key.lastIndexOf("."))));
  const flagsOnly = allSettings.filter(([, { key }]) => key === undefined);
  return [
    `# The settings that oci-worker would run with, and where each comes from. File: ${file}`,
    ...[...tables].flatMap(([table, settings]) => [
      "",
      ...(table === "" ? [] : [`[${table}]`]),
      ...settings.map((each) => line(each, each[1].key?.slice(table === "" ? 0 : table.length + 1) ?? "")),
    ]),
    ...Object.entries(registry).flatMap(([host, settings]) => [
      "",
      withOrigin(`[${registryKey}.${tomlKey(host)}]`, "the file, for the resolver"),
      ...Object.entries(settings).map(([key, value]) => `${tomlKey(key)} = ${inlineToml(value)}`),
    ]),
    "",
    "# Only flags, or the environment, set these:",
    ...flagsOnly.map((each) => `# ${line(each, nameOf(each[1])).replace(/^# /, "")}`),
    "",
  ].join("\n");
}

/** Of a setting that the file does not have. */
function nameOf({ flag, variable }: Setting): string {
  return flag === undefined ? `$${variable}` : `--${flag}`;
}

function assignment(setting: Setting, key: string, value: unknown): string {
  const said = value instanceof Set ? [...value] : value;
  const isNothing = said === undefined || said === "" || (Array.isArray(said) && said.length === 0);
  return isNothing
    ? `# ${key} is not set${setting.unset === undefined ? "" : `: ${defaultText(setting)}`}`
    : `${key} = ${inlineToml(setting.kind.toToml(said))}`;
}

function withOrigin(text: string, origin: string): string {
  return `${text.padEnd(originColumn)}  # ${origin}`;
}
