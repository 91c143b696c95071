import { isAbsolute, join } from "node:path";
import { maxSocketPathBytes } from "@oci-worker/daemon/setting";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { type Platform, parsePlatform } from "@oci-worker/oci/platform";
import { parseTruth } from "./flags.ts";
import { type SettingName, type Settings, settings } from "./settings.ts";

/** Everything that the worker goes by, checked. */
export interface Config {
  /** Absolute path of the directory that holds all state. */
  readonly root: string;
  /** Paths of unix sockets to serve the Control API on, and `fd://` for those that the service manager passes. */
  readonly addresses: readonly string[];
  /** Who besides the owner may connect; empty for nobody. */
  readonly group: string;
  readonly logLevel: string;
  readonly entitlements: ReadonlySet<Entitlement>;
  readonly enabled: boolean | "auto";
  readonly labels: Readonly<Record<string, string>>;
  /** Empty: the machine's own. */
  readonly platforms: readonly Platform[];
  readonly snapshotter: SnapshotterName;
  /** Socket of a snapshotter that runs already, or undefined to run our own. */
  readonly proxySnapshotterPath: string | undefined;
  /** A name or path; empty for the default ones. */
  readonly runtimeBinary: string;
  readonly defaultCgroupParent: string;
  readonly dns: {
    readonly nameservers: readonly string[];
    readonly searchDomains: readonly string[];
    readonly options: readonly string[];
  };
  /** Socket of a resolver that runs already, or undefined to run our own. */
  readonly resolverAddress: string | undefined;
  readonly sessionSocketPath: string;
}

const snapshotterNames = ["auto", "native", "overlayfs", "fuse-overlayfs", "stargz"] as const;
export type SnapshotterName = (typeof snapshotterNames)[number];

const entitlementNames = ["network.host"] as const;
export type Entitlement = (typeof entitlementNames)[number];

/**
 * Puts together what flags and file say, and checks it.
 *
 * @param layers the later, the stronger; labels are merged, all else is replaced.
 * @throws {InvalidArgumentError} naming the setting and what is wanted, in upstream's words where clients know them.
 */
export function parseConfig(...layers: readonly Partial<Settings>[]): Config {
  const value = <N extends SettingName>(name: N): Settings[N] =>
    (layers.findLast((layer) => layer[name] !== undefined)?.[name] ?? settings[name].fallback) as Settings[N];

  refuseContainerdWorker(value("containerdWorker"));
  requireNetworkMode(value("networkMode"));
  const root = value("root");
  if (!isAbsolute(root)) {
    throw new InvalidArgumentError(`Cannot use root ${JSON.stringify(root)}: want an absolute path`);
  }
  const addresses = value("addresses");
  if (addresses.length === 0) {
    throw new InvalidArgumentError("--addr cannot be empty");
  }
  return {
    root,
    addresses: [...new Set(addresses.map(listenAddress))],
    group: value("group"),
    logLevel: value("debug") ? "debug" : value("logLevel"),
    entitlements: new Set(value("entitlements").map(entitlement)),
    enabled: value("workerEnabled") === "auto" ? "auto" : parseTruth("oci-worker", value("workerEnabled")),
    labels: Object.assign({}, ...layers.map((layer) => layer.workerLabels)),
    platforms: value("platforms").map(platform),
    snapshotter: snapshotterName(value("snapshotter")),
    proxySnapshotterPath: proxyPath(value("proxySnapshotterPath")),
    runtimeBinary: value("runtimeBinary"),
    defaultCgroupParent: value("defaultCgroupParent"),
    dns: {
      nameservers: value("nameservers"),
      searchDomains: value("searchDomains"),
      options: value("dnsOptions"),
    },
    resolverAddress: value("resolverAddress") === "" ? undefined : socketPath(value("resolverAddress")),
    sessionSocketPath: socketPath(value("sessionAddress") || join(root, "session.sock")),
  };
}

/** A path, with or without `unix://` before it, that a unix socket can have. */
function socketPath(address: string): string {
  const path = address.replace(/^unix:\/\//, "");
  if (!isAbsolute(path) || Buffer.byteLength(path) > maxSocketPathBytes) {
    throw new InvalidArgumentError(
      `Cannot use socket ${JSON.stringify(address)}: want an absolute path of at most ${maxSocketPathBytes} bytes`,
    );
  }
  return path;
}

function listenAddress(address: string): string {
  if (address === "fd://") {
    return address;
  }
  if (isAbsolute(address) || address.startsWith("unix://")) {
    return socketPath(address);
  }
  if (!address.includes("://")) {
    throw new InvalidArgumentError(
      `address ${address} does not contain proto, you meant unix://${address} ?`,
    );
  }
  throw new InvalidArgumentError(`Cannot listen on ${address}: want unix://PATH or fd://`);
}

function proxyPath(path: string): string | undefined {
  if (path === "") {
    return undefined;
  }
  if (!isAbsolute(path)) {
    throw new InvalidArgumentError(
      `snapshotter doesn't exist on ${JSON.stringify(path)} (Do not include 'unix://' prefix)`,
    );
  }
  return socketPath(path);
}

function snapshotterName(text: string): SnapshotterName {
  const name = snapshotterNames.find((known) => known === text);
  if (name === undefined) {
    throw new InvalidArgumentError(
      `unknown snapshotter name: ${JSON.stringify(text)}, want one of ${snapshotterNames.join(", ")}`,
    );
  }
  return name;
}

function entitlement(text: string): Entitlement {
  const name = entitlementNames.find((known) => known === text);
  if (name === undefined) {
    throw new InvalidArgumentError(
      `invalid entitlement ${JSON.stringify(text)}, want one of ${entitlementNames.join(", ")}`,
    );
  }
  return name;
}

function platform(text: string): Platform {
  try {
    return parsePlatform(text);
  } catch (cause) {
    throw new InvalidArgumentError(`invalid platforms: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

function requireNetworkMode(mode: string): void {
  if (mode !== "auto" && mode !== "host" && mode !== "") {
    throw new InvalidArgumentError(`invalid network mode: ${JSON.stringify(mode)}, want auto or host`);
  }
}

/** Scripts that start buildkitd often turn its other worker off by flag; on, it would be another program. */
function refuseContainerdWorker(enabled: string): void {
  if (enabled !== "auto" && parseTruth("containerd-worker", enabled)) {
    throw new InvalidArgumentError(
      "Cannot enable the containerd worker: this program is the OCI worker only",
    );
  }
}
