import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { InvalidArgumentError } from "@oci-worker/errdefs";

const defaultConfigFile = "/etc/oci-worker/resolver.toml";

export const usage = `Usage: oci-resolver [--address SOCKET] [options]

Tells where images and layers are served, and finds the credentials for them, on a unix socket.

  --address SOCKET          socket to serve on, with or without unix://
  --session-address SOCKET  the worker's session socket, to use the credentials of its clients
  --config FILE             settings; default ${defaultConfigFile}, if it is there
  --log-level LEVEL         trace, debug, info, warn, error, fatal or silent
  --help                    print this
`;

export interface Flags {
  readonly help: boolean;
  readonly configFile: string;
  /** Whether the operator named the file, so that it has to be there. */
  readonly configFileNamed: boolean;
  /** What was set, under the keys of the config file, over which it takes precedence. */
  readonly settings: Readonly<Record<string, string>>;
}

/** @throws {InvalidArgumentError} for a flag that does not exist or lacks its value. */
export function parseFlags(args: readonly string[]): Flags {
  const values = parse(args);
  const settings = {
    address: values.address,
    sessionAddress: values["session-address"],
    logLevel: values["log-level"],
  };
  return {
    help: values.help ?? false,
    configFile: values.config ?? defaultConfigFile,
    configFileNamed: values.config !== undefined,
    settings: Object.fromEntries(
      Object.entries(settings).filter((pair): pair is [string, string] => pair[1] !== undefined),
    ),
  };
}

/** Where docker keeps its configuration, for whoever does not say otherwise. */
export function defaultDockerConfig(environment: NodeJS.ProcessEnv): string {
  return resolve(environment["DOCKER_CONFIG"] || join(homedir(), ".docker"), "config.json");
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        address: { type: "string" },
        "session-address": { type: "string" },
        config: { type: "string" },
        "log-level": { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (cause) {
    throw new InvalidArgumentError(
      `Cannot read flags: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}
