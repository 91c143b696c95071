import { UnavailableError } from "@oci-worker/errdefs";
import type { NetworkConfig, PluginConfig } from "./config.ts";
import type { CniPlugins, CniTarget } from "./plugin.ts";
import { type CniResult, parseResult } from "./result.ts";
import { chooseVersion, hasCheck } from "./version.ts";

/** A network that its plugins can set up: a configuration, and the version that all of them speak. */
export interface CniNetwork {
  readonly name: string;
  readonly cniVersion: string;
  readonly disableCheck: boolean;
  readonly plugins: readonly PluginConfig[];
}

/** What the runtime can tell a plugin that asks for it in its `capabilities` (CONVENTIONS.md of CNI), by their names. */
export type CniCapabilities = Readonly<Record<string, unknown>>;

/**
 * Finds out that every plugin of `config` is there, and a version that all of them speak.
 *
 * @throws {FailedPreconditionError} naming the plugin that is missing, or the versions.
 */
export async function openNetwork(config: NetworkConfig, plugins: CniPlugins): Promise<CniNetwork> {
  const { name, disableCheck } = config;
  const cniVersion = await chooseVersion(config, plugins);
  return { name, cniVersion, disableCheck, plugins: config.plugins };
}

/**
 * Attaches `target` to the network: ADD of every plugin, each being told what those before it have made.
 *
 * Whoever called must see to {@link detach}, also if it fails.
 *
 * @returns what the last one has answered.
 * @throws {UnavailableError} if a plugin fails, or its answer makes no sense.
 */
export async function attach(
  network: CniNetwork,
  plugins: CniPlugins,
  target: CniTarget,
  capabilities: CniCapabilities,
): Promise<CniResult> {
  let result: CniResult | undefined;
  for (const plugin of network.plugins) {
    const config = executionConfig(network, plugin, result, capabilities);
    const output = await plugins.call(plugin.type, "ADD", config, target);
    result = parseResult(output, plugin.type, network.cniVersion);
  }
  if (result === undefined) {
    throw new Error(`network ${network.name} has no plugins`);
  }
  return result;
}

/**
 * Has every plugin look whether what it has made is there still. Nothing happens where the protocol is too old for it, or
 * the operator does not want it.
 *
 * @throws {UnavailableError} in the words of the plugin that misses something.
 */
export async function verify(
  network: CniNetwork,
  plugins: CniPlugins,
  target: CniTarget,
  capabilities: CniCapabilities,
  result: CniResult,
): Promise<void> {
  if (network.disableCheck || !hasCheck(network.cniVersion)) {
    return;
  }
  for (const plugin of network.plugins) {
    const config = executionConfig(network, plugin, result, capabilities);
    await plugins.call(plugin.type, "CHECK", config, target);
  }
}

/**
 * Detaches `target` from the network: DEL of every plugin, the last one first. It may have been attached in part only.
 *
 * @param result of {@link attach}; undefined if that is not known.
 * @throws {UnavailableError} with all that went wrong; the other plugins have been called all the same.
 */
export async function detach(
  network: CniNetwork,
  plugins: CniPlugins,
  target: CniTarget,
  capabilities: CniCapabilities,
  result: CniResult | undefined,
): Promise<void> {
  const failures: unknown[] = [];
  // Before 0.4.0 there was no such thing as what ADD has answered in a DEL.
  const known = hasCheck(network.cniVersion) ? result : undefined;
  for (const plugin of network.plugins.toReversed()) {
    const config = executionConfig(network, plugin, known, capabilities);
    await plugins.call(plugin.type, "DEL", config, target).catch((error) => failures.push(error));
  }
  if (failures.length > 0) {
    const why = failures.map((failure) => (failure instanceof Error ? failure.message : failure)).join("; ");
    throw new UnavailableError(`Cannot detach ${target.containerID}: ${why}`, {
      cause: failures[0],
    });
  }
}

/** What a plugin is told: its configuration, completed by the runtime (SPEC.md, section 3). */
function executionConfig(
  { name, cniVersion }: CniNetwork,
  { capabilities: wanted, ...config }: PluginConfig,
  prevResult: CniResult | undefined,
  capabilities: CniCapabilities,
): object {
  const { plugins: _plugins, cniVersions: _cniVersions, disableCheck: _disableCheck, ...own } = config;
  const asked = Object.entries(typeof wanted === "object" && wanted !== null ? wanted : {});
  const granted = asked
    .filter(([capability, isWanted]) => isWanted === true && Object.hasOwn(capabilities, capability))
    .map(([capability]) => [capability, capabilities[capability]]);
  return {
    ...own,
    name,
    cniVersion,
    ...(granted.length > 0 && { runtimeConfig: Object.fromEntries(granted) }),
    ...(prevResult !== undefined && { prevResult }),
  };
}
