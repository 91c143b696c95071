import { parseArgs } from "node:util";
import { InvalidArgumentError } from "@oci-worker/errdefs";

/** What Kubernetes says of a service with the name of ours (kubernetes.io, service environment variables). */
const serviceLink = /^(SERVICE_HOST|SERVICE_PORT|PORT)(_|$)/;

/** What an operator has said on the command line and in the environment. */
export interface Flags {
  readonly help: boolean;
  readonly version: boolean;
  readonly configFile: string;
  /** Whether the operator named the file, so that it has to be there. */
  readonly configFileNamed: boolean;
  /** What was set, under the keys of the config file, over which it takes precedence. */
  readonly settings: Readonly<Record<string, string>>;
  /** Which of {@link FlagsDescription.questions} were asked. */
  readonly questions: ReadonlySet<string>;
}

/** What a program takes. */
export interface FlagsDescription {
  /** Flags without their dashes, each with the key of the config file that it sets. */
  readonly settingsByFlag: Readonly<Record<string, string>>;
  /** The same of flags that take no value: `--NAME` sets the key to true, `--no-NAME` to false. */
  readonly switchesByFlag?: Readonly<Record<string, string>>;
  /** Flags without a value that ask for something else than to run, such as "check". */
  readonly questions?: readonly string[];
  /** Keys that the environment can set, as `rootDir` by `<prefix>ROOT_DIR`. */
  readonly environmentKeys: readonly string[];
  readonly environmentPrefix: string;
  readonly defaultConfigFile: string;
}

/**
 * Reads `args` and `environment`: a flag takes precedence over a variable, and an empty variable counts as none.
 * `--config FILE`, `--help` and `--version` are there always.
 *
 * @throws {InvalidArgumentError} for a flag that does not exist or lacks its value, and for a variable with the prefix
 * that sets nothing.
 */
export function parseFlags(
  description: FlagsDescription,
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
): Flags {
  const { settingsByFlag, switchesByFlag = {}, questions = [], defaultConfigFile } = description;
  const values = parse(args, Object.keys(settingsByFlag), [...Object.keys(switchesByFlag), ...questions]);
  const settings = settingsOfEnvironment(description, environment);
  for (const [flag, key] of Object.entries({ ...settingsByFlag, ...switchesByFlag })) {
    const value = values[flag];
    if (value !== undefined) {
      settings[key] = String(value);
    }
  }
  const config = values["config"];
  return {
    help: values["help"] === true,
    version: values["version"] === true,
    configFile: typeof config === "string" ? config : defaultConfigFile,
    configFileNamed: config !== undefined,
    settings,
    questions: new Set(questions.filter((question) => values[question] === true)),
  };
}

function settingsOfEnvironment(
  { environmentKeys, environmentPrefix }: FlagsDescription,
  environment: NodeJS.ProcessEnv,
): Record<string, string> {
  const keys = new Map(environmentKeys.map((key) => [`${environmentPrefix}${constantCase(key)}`, key]));
  const settings: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith(environmentPrefix) || !value) {
      continue;
    }
    if (serviceLink.test(name.slice(environmentPrefix.length))) {
      continue;
    }
    const key = keys.get(name);
    if (key === undefined) {
      throw new InvalidArgumentError(
        `Cannot read environment: ${name} sets nothing, want one of ${[...keys.keys()].join(", ")}`,
      );
    }
    settings[key] = value;
  }
  return settings;
}

function constantCase(key: string): string {
  return key.replace(/[A-Z]+/g, (letters) => `_${letters}`).toUpperCase();
}

function parse(
  args: readonly string[],
  flags: readonly string[],
  switches: readonly string[],
): Record<string, unknown> {
  const text = { type: "string" } as const;
  const bare = { type: "boolean" } as const;
  try {
    return parseArgs({
      args: [...args],
      allowNegative: true,
      options: {
        ...Object.fromEntries(flags.map((flag) => [flag, text])),
        ...Object.fromEntries(switches.map((flag) => [flag, bare])),
        config: text,
        help: { type: "boolean", short: "h" },
        version: bare,
      },
    }).values;
  } catch (cause) {
    throw new InvalidArgumentError(
      `Cannot read flags: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}
