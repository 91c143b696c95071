import { readFile } from "node:fs/promises";
import { FailedPreconditionError, InvalidArgumentError } from "@oci-worker/errdefs";

/** What one plugin is told, as the operator has written it. */
export interface PluginConfig {
  /** Name of the program. */
  readonly type: string;
  readonly [key: string]: unknown;
}

/** A network configuration of CNI (SPEC.md 1.1.0, section 1), as far as the runtime has to understand it. */
export interface NetworkConfig {
  readonly name: string;
  /** Versions of the protocol that the plugins may be spoken to in. */
  readonly cniVersions: readonly string[];
  /** The operator does not want the network to be checked once it is there. */
  readonly disableCheck: boolean;
  /** Called in this order, each being told what those before it have made. */
  readonly plugins: readonly PluginConfig[];
}

/** The version of a configuration that names none (libcni). */
const unnamedVersion = "0.1.0";

/** Of a network, and of a container (SPEC.md, sections 1 and 2). */
const nameForm = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/**
 * Reads a configuration file: that of one plugin (`.conf`), or a list of them (`.conflist`). Which one it is, its
 * content says; buildkitd goes by the file's name, and so cannot read a list that is called `cni.json`.
 *
 * @throws {FailedPreconditionError} if it cannot be read.
 * @throws {InvalidArgumentError} naming what is wrong in it.
 */
export async function readNetworkConfig(path: string): Promise<NetworkConfig> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FailedPreconditionError(`failed to read cni config ${JSON.stringify(path)}: ${why}`, { cause });
  }
  return parseNetworkConfig(text, path);
}

/** @param path of the file, for errors. */
export function parseNetworkConfig(text: string, path: string): NetworkConfig {
  const refuse = (problem: string, cause?: unknown) =>
    new InvalidArgumentError(`failed to read cni config ${JSON.stringify(path)}: ${problem}`, { cause });
  const config = parseObject(text, refuse);
  const { name, cniVersion = unnamedVersion, cniVersions = [], disableCheck = false } = config;
  if (typeof name !== "string" || !nameForm.test(name)) {
    throw refuse(`name is ${JSON.stringify(name)}, want letters, digits, "_", "." and "-"`);
  }
  if (!isText(cniVersion) || !Array.isArray(cniVersions) || !cniVersions.every(isText)) {
    throw refuse('cniVersion and cniVersions are no versions, want one such as "1.0.0", and a list of them');
  }
  const plugins = "plugins" in config ? config["plugins"] : [config];
  if (!Array.isArray(plugins) || plugins.length === 0) {
    throw refuse("plugins is empty, want a list of plugins");
  }
  return {
    name,
    cniVersions: [cniVersion, ...cniVersions],
    disableCheck: disableCheck === true || disableCheck === "true",
    plugins: plugins.map((plugin: unknown, index) => {
      if (!isPlugin(plugin)) {
        throw refuse(`plugin ${index} has no type, want the name of a program without a path`);
      }
      return plugin;
    }),
  };
}

function parseObject(text: string, refuse: (problem: string, cause?: unknown) => Error) {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw refuse(`it is no JSON: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw refuse("it is no JSON object");
  }
  return value as Readonly<Record<string, unknown>>;
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

/** A type with a path in it would start a program from anywhere. */
function isPlugin(value: unknown): value is PluginConfig {
  return (
    typeof value === "object" &&
    value !== null &&
    "type" in value &&
    typeof value.type === "string" &&
    value.type !== "" &&
    !value.type.includes("/")
  );
}
