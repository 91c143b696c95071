import { existsSync } from "node:fs";
import { loadConfig } from "@oci-worker/daemon/load-config";
import { version } from "@oci-worker/daemon/version";
import { isInUserNamespace } from "@oci-worker/libc/user-namespace";
import type { TomlTable } from "smol-toml";
import { readTracing, type Tracing } from "../traces/forwarding/tracing.ts";
import { appArmorStanding } from "./apparmor.ts";
import { type Config, resolveConfig } from "./config.ts";
import { readEnvironment } from "./environment.ts";
import { readConfigFile } from "./file.ts";
import { parseCommandLine } from "./flags.ts";
import { usage } from "./help.ts";
import { idleSettings } from "./idle-settings.ts";
import { printConfig } from "./print-config.ts";
import { configFileOf, requireMappedRoot, requireUserNamespace, rootlessDefaults } from "./rootless.ts";

/** What a worker is to be run with. */
export interface Instructions {
  readonly config: Config;
  /** The table `[registry]` of the file, for the resolver. */
  readonly registry: TomlTable;
  readonly tracing: Tracing;
  /** What the operator should know of the settings. */
  readonly warnings: readonly string[];
}

/** By upstream's name for it, which operators look for in the log. */
const noProcessSandbox =
  "NoProcessSandbox is enabled: steps can see, kill and perhaps trace every process of this worker's user, want it only where the worker runs in a container of its own as an unprivileged user";

/**
 * Reads command line, environment and file, and answers what the command line may ask instead of running a worker.
 *
 * @returns undefined if it was a question.
 * @throws {InvalidArgumentError} {NotFoundError} naming what is wrong and what is wanted.
 */
export async function readConfig(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<Instructions | undefined> {
  const commandLine = parseCommandLine(args);
  if (commandLine.help || commandLine.version) {
    process.stdout.write(commandLine.help ? usage(process.stdout.columns) : `oci-worker ${version}\n`);
    return undefined;
  }
  const uid = process.geteuid?.() ?? 0;
  const standing = { isInUserNamespace: isInUserNamespace(), uid, environment, appArmor: appArmorStanding() };
  requireMappedRoot(commandLine, standing);
  const { configFile = configFileOf(standing) } = commandLine;
  const table = await loadConfig(configFile, commandLine.configFile !== undefined);
  const { layer, registry, unused, warnings } = readConfigFile(table, configFile);
  const variables = readEnvironment(environment);
  const resolved = resolveConfig(rootlessDefaults(standing), layer, variables.layer, commandLine.layer);
  const unusedKeys = unused.map(
    ({ key, meant }) =>
      `${key} of ${configFile} is not used by this worker${meant === undefined ? "" : `, want ${meant}?`}`,
  );
  const allWarnings = [
    ...unusedKeys,
    ...warnings,
    ...variables.warnings,
    ...commandLine.warnings,
    ...idleSettings(resolved, registry, configFile),
    ...(resolved.config.noProcessSandbox ? [noProcessSandbox] : []),
  ];
  if (commandLine.printConfig) {
    const file = { path: configFile, isThere: existsSync(configFile) };
    process.stdout.write(printConfig(resolved, registry, file, allWarnings));
    return undefined;
  }
  requireUserNamespace(resolved.config, standing);
  const tracing = await readTracing(environment);
  return {
    config: resolved.config,
    registry,
    tracing,
    warnings: [...allWarnings, ...tracing.warnings],
  };
}
