import { InvalidArgumentError } from "@oci-worker/errdefs";
import { nearest } from "@oci-worker/nearest";
import type { Kind } from "./kind.ts";
import { readText, underFormerName } from "./say.ts";
import type { Setting } from "./setting.ts";
import { allSettings, type Layer, type Saying, type SettingName } from "./settings.ts";

/** What a command line says. */
export interface CommandLine {
  readonly help: boolean;
  readonly version: boolean;
  /** Whether the settings are to be shown instead of a worker to be run. */
  readonly printConfig: boolean;
  /** Undefined: the default file, if it is there. */
  readonly configFile: string | undefined;
  readonly layer: Layer;
  /** What the operator should know. */
  readonly warnings: readonly string[];
}

interface FlagTarget {
  readonly name: SettingName;
  readonly setting: Setting;
  /** What the flag is called now. */
  readonly now: string | undefined;
}

const byFlag = new Map<string, FlagTarget>(allSettings.flatMap(([name, setting]) => flagsOf(name, setting)));

function flagsOf(name: SettingName, setting: Setting): [string, FlagTarget][] {
  const { flag, key, former = [] } = setting;
  return [
    ...(flag === undefined ? [] : ([[flag, { name, setting, now: undefined }]] as [string, FlagTarget][])),
    ...former.flatMap(({ flag: old, kind }): [string, FlagTarget][] =>
      old === undefined
        ? []
        : [
            [
              old,
              {
                name,
                setting: underFormerName(setting, kind),
                now: flag === undefined ? `${key} of the file` : `--${flag}`,
              },
            ],
          ],
    ),
  ];
}

/** Flags that are no settings. */
const questions = ["config", "help", "print-config", "version"];

/**
 * Flags of buildkitd for its other worker. Scripts that start buildkitd carry them along, mostly to turn it off; whether
 * that is so is a setting (`--containerd-worker`), the rest would only say how it is to run.
 */
const ignoredFlag = /^containerd-(worker|cni)-[a-z-]+$/;
const ignoredSwitch = /^containerd-worker-(gc|rootless|selinux)$/;

/**
 * Reads a command line in the way of buildkitd: `--name value`, `--name=value`, one dash or two, and `--name` alone for
 * what is yes or no.
 *
 * @throws {InvalidArgumentError} naming the argument that is wrong, and what is wanted.
 */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const layer = new Map<SettingName, Saying>();
  const warnings = new Set<string>();
  const asked = new Set<string>();
  let configFile: string | undefined;
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const { flag, inline } = splitFlag(arg);
    const operand = () => inline ?? required(flag, rest.shift());
    const target = byFlag.get(flag);
    if (target !== undefined) {
      const { name, setting, now } = target;
      if (now !== undefined) {
        warnings.add(`--${flag} is now called ${now}`);
      }
      const said = setting.kind.operand === undefined ? (inline ?? "true") : operand();
      const value = readText(setting, said, `--${flag}`);
      layer.set(name, appended(setting.kind, layer.get(name), value, flag));
    } else if (flag === "config") {
      configFile = operand();
    } else if (ignoredFlag.test(flag)) {
      if (!ignoredSwitch.test(flag)) {
        operand();
      }
    } else {
      asked.add(questionOf(flag));
    }
  }
  return {
    help: asked.has("help"),
    version: asked.has("version"),
    printConfig: asked.has("print-config"),
    configFile,
    layer,
    warnings: [...warnings],
  };
}

/** What a flag says together with its earlier occurrences. */
function appended(kind: Kind<unknown>, earlier: Saying | undefined, value: unknown, flag: string): Saying {
  const origin = `--${flag}`;
  const all = earlier === undefined ? value : (kind.append?.(earlier.value, value) ?? value);
  return { value: all, origin };
}

function splitFlag(arg: string): { readonly flag: string; readonly inline: string | undefined } {
  const [, flag, inline] = /^--?([^=-][^=]*)(?:=(.*))?$/s.exec(arg) ?? [];
  if (flag === undefined) {
    throw new InvalidArgumentError(`Cannot use argument ${JSON.stringify(arg)}: want flags only, see --help`);
  }
  return { flag, inline };
}

/** @throws {InvalidArgumentError} with the flag that may have been meant, or why there is none. */
function questionOf(flag: string): string {
  const name = { h: "help", v: "version" }[flag] ?? flag;
  if (questions.includes(name)) {
    return name;
  }
  const meant = nearest(flag, [...byFlag.keys(), ...questions]);
  const hint = meant === undefined ? "" : `want --${meant}, `;
  throw new InvalidArgumentError(`Cannot use flag --${flag}: there is none of that name, ${hint}see --help`);
}

function required(flag: string, value: string | undefined): string {
  if (value === undefined) {
    throw new InvalidArgumentError(`Cannot use flag --${flag}: it has no value, want --${flag} VALUE`);
  }
  return value;
}
