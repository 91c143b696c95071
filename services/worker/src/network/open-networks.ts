import { join } from "node:path";
import type { Logger } from "pino";
import { CniNamespaces } from "./cni/namespaces.ts";
import { OwnBridge } from "./cni/own-bridge.ts";
import { CniProvider } from "./cni/provider.ts";
import { lockedBy } from "./init-lock.ts";
import type { NetworkSettings } from "./network-settings.ts";
import { hostNetwork, Networks } from "./networks.ts";
import type { NetworkPlan } from "./plan.ts";
import { ProxyNetworks } from "./proxy/proxy-networks.ts";

export interface NetworksOptions {
  readonly plan: NetworkPlan;
  readonly settings: NetworkSettings;
  /** Absolute; holds all that is known of networks that were set up. */
  readonly directory: string;
  readonly dns: {
    readonly nameservers: readonly string[];
    readonly searchDomains: readonly string[];
    readonly options: readonly string[];
  };
  /** Path of the user namespace that steps are in; undefined: ours. */
  readonly userNamespace: string | undefined;
  readonly log: Logger;
}

/** Networks, and what clients are told of the default one. Disposing takes down what was set up ahead of need. */
export interface OpenNetworks extends AsyncDisposable {
  readonly networks: Networks;
  /** A bridge is one way of CNI. */
  readonly resolved: "host" | "cni";
}

/** DHCP may take its time; a plugin that hangs must not hold a build for ever. */
const pluginTimeoutMs = 60_000;

/** As upstream's grace period for name spaces beyond the pool's size. */
const idleMs = 5 * 60_000;

/**
 * Opens the networks that steps may ask for. What an earlier worker has left of its own is removed, under whatever
 * settings that ran.
 *
 * @throws {FailedPreconditionError} if a plugin is missing or speaks other versions of CNI.
 * @throws {UnavailableError} if the network does not come up.
 */
export async function openNetworks(options: NetworksOptions): Promise<OpenNetworks> {
  const { directory, dns, log, plan, settings, userNamespace: owner } = options;
  const { netns } = plan;
  await using undo = new AsyncDisposableStack();
  const namespaces = undo.use(
    await CniNamespaces.open({
      directory,
      pluginTimeoutMs,
      netns,
      capabilities: {
        dns: { servers: dns.nameservers, searches: dns.searchDomains, options: dns.options },
      },
      owner,
      log,
    }),
  );
  const proxied = undo.use(await ProxyNetworks.open({ directory: join(directory, "proxy"), owner, log }));
  const ownBridge = new OwnBridge(directory, netns, log);
  if (plan.kind === "host") {
    await ownBridge.claim(undefined);
    if (plan.isFallback) {
      log.warn("using host network as the default");
    }
    const networks = new Networks(hostNetwork, proxied);
    const owned = undo.move();
    return { networks, resolved: "host", [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }
  undo.defer(() => ownBridge.remove());
  const { config, directories, loopbackType } = plan;
  if (netns !== undefined) {
    log.info({ netns }, "networks of steps are made in the one that RootlessKit has detached");
  }
  const plugins = namespaces.pluginsIn(directories);
  const poolSize = settings.cniPoolSize;
  const provider = undo.use(
    await lockedBy(settings.cniInitLockPath, log, async () => {
      // Not before: another worker may be just about to make, or to remove, the bridge that we want.
      await ownBridge.claim(plan.kind === "bridge" ? settings.bridgeName : undefined);
      return await CniProvider.open({ config, loopbackType, plugins, namespaces, poolSize, idleMs, log });
    }),
  );
  const owned = undo.move();
  return {
    networks: new Networks(provider, proxied),
    resolved: "cni",
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
