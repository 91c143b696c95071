import { delimiter, dirname, join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { NetworkSettings } from "../network-settings.ts";
import type { NetworkConfig } from "./config.ts";
import { placeOf } from "./plugin.ts";

/** The plugins of a bridge network by what they do, as their programs are called. */
export interface BridgePlugins {
  readonly bridge: string;
  readonly loopback: string;
  readonly hostLocal: string;
  /** Absent where it is not installed: it only makes up for a firewall that forwards nothing by itself. */
  readonly firewall?: string;
  readonly directories: readonly string[];
}

export interface BridgeSettings
  extends Pick<NetworkSettings, "bridgeName" | "bridgeSubnet" | "isRootless" | "root"> {
  /** Whether the bridge is in another network than the worker. */
  readonly isDetached: boolean;
}

/** The names under which BuildKit's images carry the plugins. */
const packaged = { bridge: "bridge", loopback: "loopback", hostLocal: "host-local", firewall: "firewall" };

/**
 * Finds the plugins of a bridge network: `buildkit-cni-*` on PATH, where all of them are there; else those in
 * `directories`.
 *
 * @throws {FailedPreconditionError} naming what was looked for.
 */
export async function findBridgePlugins(
  directories: readonly string[],
  pathVariable: string,
): Promise<BridgePlugins> {
  const onPath = pathVariable.split(delimiter).filter(Boolean);
  const named = Object.entries(packaged).map(([role, name]) => [role, `buildkit-cni-${name}`] as const);
  const places = await Promise.all(named.map(([, name]) => placeOf(name, onPath)));
  if (places.every((place) => place !== undefined)) {
    const names = Object.fromEntries(named) as Record<keyof typeof packaged, string>;
    return { ...names, directories: [...new Set(places.map((place) => dirname(place)))] };
  }
  if ((await placeOf(packaged.bridge, directories)) === undefined) {
    throw new FailedPreconditionError(
      `failed to find CNI bridge ${JSON.stringify(join(directories[0] ?? "", "bridge"))} or buildkit-cni-bridge, want the CNI plugins installed`,
    );
  }
  const { firewall, ...required } = packaged;
  const hasFirewall = (await placeOf(firewall, directories)) !== undefined;
  return { ...required, ...(hasFirewall && { firewall }), directories };
}

/**
 * A bridge on the host with the steps' devices on it, its addresses from the subnet; what goes beyond it leaves with the
 * host's address. Steps reach each other on the bridge, other bridges do not reach them.
 */
export function bridgeConfig(
  { bridgeName, bridgeSubnet, isDetached, isRootless, root }: BridgeSettings,
  { bridge, hostLocal, firewall }: BridgePlugins,
): NetworkConfig {
  // By default leases are where all workers of a host see them, which only its root may write to.
  const dataDir = isRootless ? { dataDir: join(root, "net/leases") } : {};
  // firewalld is the host's, and no other network's (nerdctl issue 2818).
  const backend = isRootless || isDetached ? { backend: "iptables" } : {};
  return {
    name: "buildkit",
    cniVersions: ["1.0.0", "0.4.0"],
    disableCheck: false,
    plugins: [
      {
        type: bridge,
        bridge: bridgeName,
        isDefaultGateway: true,
        ipMasq: true,
        ipam: { type: hostLocal, ranges: [[{ subnet: bridgeSubnet }]], ...dataDir },
      },
      ...(firewall === undefined ? [] : [{ type: firewall, ingressPolicy: "same-bridge", ...backend }]),
    ],
  };
}
