import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { type Flags, parseFlags as parse } from "@oci-worker/daemon/flags";
import { defaults } from "./config.ts";

const defaultConfigFile = "/etc/oci-worker/resolver.toml";

export const usage = `Usage: oci-resolver [--address SOCKET] [options]

Tells where images and layers are served, and finds the credentials for them, on a unix socket.

  --address SOCKET          socket to serve on, with or without unix://
  --session-address SOCKET  the worker's session socket, to use the credentials of its clients
  --config FILE             settings; default ${defaultConfigFile}, if it is there
  --log-level LEVEL         trace, debug, info, warn, error, fatal or silent
  --help                    print this
  --version                 print the version

Variables of the environment stand in for the config file's keys: OCI_WORKER_RESOLVER_LOG_LEVEL for logLevel.
`;

/** Keys whose values are tables; all others can be set in the environment. */
const tableKeys: ReadonlySet<string> = new Set(["registry", "static"]);
const environmentKeys = Object.keys(defaults).filter((key) => !tableKeys.has(key));

/**
 * What the command line and the environment say; their settings take precedence over the config file's.
 *
 * @throws {InvalidArgumentError} for a flag or a variable that does not exist, and for a flag without its value.
 */
export function parseFlags(args: readonly string[], environment: NodeJS.ProcessEnv): Flags {
  return parse(
    {
      settingsByFlag: {
        address: "address",
        "session-address": "sessionAddress",
        "log-level": "logLevel",
      },
      environmentKeys,
      environmentPrefix: "OCI_WORKER_RESOLVER_",
      defaultConfigFile,
    },
    args,
    environment,
  );
}

/** Where docker keeps its configuration, for whoever does not say otherwise. */
export function defaultDockerConfig(environment: NodeJS.ProcessEnv): string {
  return resolve(environment["DOCKER_CONFIG"] || join(homedir(), ".docker"), "config.json");
}
