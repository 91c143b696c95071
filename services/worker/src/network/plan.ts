import { access } from "node:fs/promises";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { bridgeConfig, findBridgePlugins } from "./cni/bridge.ts";
import { type NetworkConfig, readNetworkConfig } from "./cni/config.ts";
import { findDetachedNetns } from "./detached-netns.ts";
import type { NetworkSettings } from "./network-settings.ts";

/** What is to be set up for steps, found out and checked before anything is. */
export type NetworkPlan = {
  /**
   * Where the network that the plugins of CNI work on is mounted, of which an earlier worker may have left something;
   * undefined: it is the worker's own.
   */
  readonly netns: string | undefined;
} & (
  | {
      readonly kind: "host";
      /** Whether nobody has asked for it. */
      readonly isFallback: boolean;
    }
  | {
      readonly kind: "cni" | "bridge";
      readonly config: NetworkConfig;
      /** Name of the plugin that turns loopback devices on. */
      readonly loopbackType: string;
      /** Where the plugins are. */
      readonly directories: readonly string[];
    }
);

/** Upstream's, and Debian's. */
const usualBinaryDirectories = ["/opt/cni/bin", "/usr/lib/cni"];

/**
 * Finds out where a step's network comes from. Auto is a bridge if the environment says so, the configuration of CNI if
 * there is one, and else the host's own network; what has been decided for must then work.
 *
 * @throws {FailedPreconditionError} if a configuration or plugins are missing.
 * @throws {InvalidArgumentError} if a configuration cannot be understood.
 */
export async function planNetworks(
  settings: NetworkSettings,
  environment: NodeJS.ProcessEnv,
): Promise<NetworkPlan> {
  const kind = await kindOf(settings);
  const finding = findDetachedNetns(settings.rootlesskitStateDirectory);
  if (kind === "host") {
    // Who wants no network of CNI need not be told what is wrong with it.
    const netns = await finding.catch(() => undefined);
    return { kind, isFallback: settings.networkMode !== "host", netns };
  }
  const netns = await finding;
  const { cniBinaryDirectory } = settings;
  const directories = cniBinaryDirectory === undefined ? usualBinaryDirectories : [cniBinaryDirectory];
  if (kind === "cni") {
    const config = await readNetworkConfig(settings.cniConfigPath);
    await requireOneOf(directories);
    return { kind, config, loopbackType: "loopback", directories, netns };
  }
  const plugins = await findBridgePlugins(directories, environment["PATH"] ?? "");
  return {
    kind,
    config: bridgeConfig({ ...settings, isDetached: netns !== undefined }, plugins),
    loopbackType: plugins.loopback,
    directories: plugins.directories,
    netns,
  };
}

async function kindOf({ networkMode, bridgeAuto, cniConfigPath }: NetworkSettings) {
  if (networkMode !== "auto") {
    return networkMode;
  }
  if (bridgeAuto) {
    return "bridge";
  }
  return (await exists(cniConfigPath)) ? "cni" : "host";
}

/** @throws {FailedPreconditionError} in the words of upstream. */
async function requireOneOf(directories: readonly string[]): Promise<void> {
  const present = await Promise.all(directories.map(exists));
  if (!present.includes(true)) {
    throw new FailedPreconditionError(
      `failed to read cni binary dir ${JSON.stringify(directories.join(" or "))}: there is no such directory`,
    );
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
