import type { TomlTable } from "smol-toml";
import type { Resolved } from "./config.ts";
import { registryKey } from "./registries.ts";
import type { Setting } from "./setting.ts";
import { allSettings, type SettingName } from "./settings.ts";
import { defaultText, inlineToml, tomlKey } from "./show.ts";

/** The origins stand beneath each other, but for those of longer lines, in columns. */
const maxOriginColumn = 64;

/** The file that was asked for settings. */
export interface ReadFile {
  readonly path: string;
  /** A file that nobody has named need not be. */
  readonly isThere: boolean;
}

/** A line, and where what it says comes from. */
type Line = readonly [text: string, origin?: string];

/**
 * Every setting with its value and where that comes from, as a buildkitd.toml that would say the same. What is not set,
 * and what only a flag can set, is a comment.
 *
 * @param warnings that starting with these settings would log.
 */
export function printConfig(
  { config, origins }: Resolved,
  registry: TomlTable,
  { path, isThere }: ReadFile,
  warnings: readonly string[] = [],
): string {
  const ofFile = ` of ${path}`;
  const line = ([name, setting]: [SettingName, Setting], key: string): Line => [
    assignment(setting, key, config[name]),
    origins.get(name)?.replaceAll(ofFile, " of the file") ?? "",
  ];
  const keyed = allSettings.filter(([, { key }]) => key !== undefined);
  const tables = Map.groupBy(keyed, ([, { key = "" }]) => key.slice(0, Math.max(0, key.lastIndexOf("."))));
  const flagsOnly = allSettings.filter(([, { key }]) => key === undefined);
  return aligned([
    ["# The settings that oci-worker would run with, and where each comes from."],
    [`# File: ${isThere ? path : `none, as ${path} is not there`}`],
    ...[...tables].flatMap(([table, settings]): Line[] => [
      [""],
      ...(table === "" ? [] : [[`[${table}]`] as const]),
      ...settings.map((each) => line(each, each[1].key?.slice(table === "" ? 0 : table.length + 1) ?? "")),
    ]),
    ...Object.entries(registry).flatMap(([host, settings]): Line[] => [
      [""],
      [`[${registryKey}.${tomlKey(host)}]`, "the file, for the resolver"],
      ...Object.entries(settings).map(([key, value]): Line => [`${tomlKey(key)} = ${inlineToml(value)}`]),
    ]),
    [""],
    ["# Only flags, or the environment, set these:"],
    ...flagsOnly.map((each): Line => {
      const [text, origin = ""] = line(each, nameOf(each[1]));
      return [text.startsWith("#") ? text : `# ${text}`, origin];
    }),
    ...(warnings.length === 0 ? [] : [[""] as const, ["# Warnings:"] as const]),
    ...warnings.map((warning): Line => [`# - ${warning}`]),
    [""],
  ]);
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

function aligned(lines: readonly Line[]): string {
  const widths = lines.map(([text, origin]) => (origin === undefined ? 0 : text.length));
  const column = Math.max(...widths.filter((width) => width <= maxOriginColumn));
  return lines
    .map(([text, origin]) => (origin === undefined ? text : `${text.padEnd(column)}  # ${origin}`))
    .join("\n");
}
