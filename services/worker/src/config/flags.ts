import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Setting, type SettingName, type Settings, settings } from "./settings.ts";

/** What a command line says. */
export interface CommandLine {
  readonly help: boolean;
  readonly version: boolean;
  /** Undefined: the default file, if it is there. */
  readonly configFile: string | undefined;
  readonly values: Partial<Settings>;
}

const byFlag = new Map<string, readonly [SettingName, Setting]>(
  Object.entries(settings).flatMap(([name, setting]) =>
    setting.flag === undefined ? [] : [[setting.flag, [name as SettingName, setting]]],
  ),
);

/**
 * Reads a command line in the way of buildkitd: `--name value`, `--name=value`, one dash or two, and `--name` alone for
 * what is yes or no.
 *
 * @throws {InvalidArgumentError} naming the argument that is wrong.
 */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const values: Partial<Record<SettingName, Settings[SettingName]>> = {};
  let [help, version]: [boolean, boolean] = [false, false];
  let configFile: string | undefined;
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const { flag, inline } = splitFlag(arg);
    const operand = () => inline ?? required(flag, rest.shift());
    if (flag === "help" || flag === "h") {
      help = true;
    } else if (flag === "version" || flag === "v") {
      version = true;
    } else if (flag === "config") {
      configFile = operand();
    } else {
      const [name, setting] = settingOf(flag);
      values[name] = nextValue(
        setting,
        flag,
        values[name],
        setting.kind === "truth" ? (inline ?? "true") : operand(),
      );
    }
  }
  return { help, version, configFile, values: values as Partial<Settings> };
}

/** The text of --help. */
export function usage(): string {
  const options = [...byFlag.values()].map(([, { flag = "", kind, help }]) => {
    const operand = kind === "truth" ? "" : kind === "pairs" ? " NAME=VALUE" : " VALUE";
    const repeated = kind === "texts" || kind === "pairs" ? ", may be repeated" : "";
    return [`--${flag}${operand}`, `${help}${repeated}`];
  });
  const rows = [
    ["--config FILE", "buildkitd.toml; default: /etc/buildkit/buildkitd.toml if it is there"],
    ...options,
    ["--help", "show this text"],
    ["--version", "show the version"],
  ];
  const width = Math.max(...rows.map(([option = ""]) => option.length));
  return [
    "Usage: oci-worker [OPTION]...",
    "",
    "BuildKit's OCI worker: serves the Control API that buildctl and docker buildx speak.",
    "Started without --oci-worker-proxy-snapshotter-path or --resolver-address, it runs a snapshotter or a resolver",
    "of its own, with sockets in its root, for as long as it runs itself.",
    "",
    ...rows.map(([option = "", help = ""]) => `  ${option.padEnd(width)}  ${help}`),
    "",
  ].join("\n");
}

function splitFlag(arg: string): { readonly flag: string; readonly inline: string | undefined } {
  const [, flag, inline] = /^--?([^=-][^=]*)(?:=(.*))?$/s.exec(arg) ?? [];
  if (flag === undefined) {
    throw new InvalidArgumentError(`Cannot use argument ${JSON.stringify(arg)}: want flags only, see --help`);
  }
  return { flag, inline };
}

function settingOf(flag: string): readonly [SettingName, Setting] {
  const found = byFlag.get(flag);
  if (found === undefined) {
    throw new InvalidArgumentError(`Cannot use flag --${flag}: there is none of that name, see --help`);
  }
  return found;
}

function required(flag: string, value: string | undefined): string {
  if (value === undefined) {
    throw new InvalidArgumentError(`Cannot use flag --${flag}: it has no value, want --${flag} VALUE`);
  }
  return value;
}

/** The value of a setting after one more occurrence of its flag. */
function nextValue({ kind }: Setting, flag: string, earlier: unknown, text: string): Settings[SettingName] {
  switch (kind) {
    case "text":
      return text;
    case "texts":
      return [...((earlier as readonly string[] | undefined) ?? []), text];
    case "truth":
      return parseTruth(flag, text);
    case "pairs": {
      const [, name = "", value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
      if (value === undefined) {
        throw new InvalidArgumentError(
          `Cannot use flag --${flag}: invalid value ${JSON.stringify(text)}, want NAME=VALUE`,
        );
      }
      return { ...(earlier as Readonly<Record<string, string>> | undefined), [name]: value };
    }
  }
}

/** Go's spellings (strconv.ParseBool). */
export function parseTruth(flag: string, text: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) {
    return true;
  }
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) {
    return false;
  }
  throw new InvalidArgumentError(`Cannot use --${flag}: it is ${JSON.stringify(text)}, want true or false`);
}
