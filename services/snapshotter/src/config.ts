import { type LogFormat, logFormats } from "@oci-worker/daemon/log";
import {
  absolutePath,
  milliseconds,
  oneOf,
  refuseUnknownKeys,
  socketPath,
  someOf,
  text,
  texts,
  truth,
  wholeNumber,
  wrongSetting,
} from "@oci-worker/daemon/setting";
import { type BackendName, backendNames } from "./backends/backend.ts";
import { preference } from "./backends/choose.ts";
import { objectionTo } from "./backends/overlayfs/mount-options.ts";
import { mountModes } from "./lazy/kernel/layer-mounter.ts";

/** Every name that `--snapshotter` knows. */
const snapshotterNames = ["auto", ...backendNames] as const;

export type SnapshotterName = (typeof snapshotterNames)[number];

/** Ways to mount lazy layers. */
const lazyModes = ["auto", ...mountModes] as const;

/** Everything that an operator can set, checked. Units are in the names. */
export interface Config {
  /** Absolute path of the directory that holds the metadata and the snapshots. One process and one client a root. */
  readonly root: string;
  /** Path of the unix socket that the Snapshots API is served on. */
  readonly address: string;
  /** How snapshots are kept. `auto` takes what the root already has, else the first of overlayfs, fuse-overlayfs and native that runs. */
  readonly snapshotter: SnapshotterName;
  /** What `auto` never takes, though nothing else runs. `native` here: better no snapshotter than full copies. */
  readonly autoExclude: readonly BackendName[];
  /**
   * The client that this root is for, by the name that it has for us; undefined: the first that changes something. A
   * name other than before hands the root over.
   */
  readonly client: string | undefined;
  /** Whether other clients than that one may change snapshots: each one's garbage collector deletes the others'. */
  readonly allowSeveralClients: boolean;
  /** Path of the resolver's unix socket, which `stargz` asks where layers are; undefined for none, and no lazy layers. */
  readonly resolverAddress: string | undefined;
  /** Least level of the lines that are logged. At `debug` each call is one. */
  readonly logLevel: string;
  /** Whether lines are JSON, for machines, or text, for people. */
  readonly logFormat: LogFormat;
  /**
   * Whether a commit waits until everything in the snapshot is on disk, so that no power cut leaves empty files in a
   * layer that is there by name. It waits for other writers of the file system, too.
   */
  readonly syncOnCommit: boolean;
  /** Options of every overlay mount besides those that we choose, over which they take precedence. */
  readonly mountOptions: readonly string[];
  /**
   * Whether overlayfs describes each snapshot with the label `containerd.io/snapshot/overlay.upperdir`, the path of its
   * content.
   */
  readonly upperdirLabel: boolean;
  /** How long calls in flight may go on after SIGTERM. */
  readonly drainTimeoutMs: number;
  /** How `stargz` mounts layers: `auto` takes the first of the modes that runs here. */
  readonly lazyMode: (typeof lazyModes)[number];
  /** How much of lazy layers is kept on disk; what was used last is kept longest. Undefined: all that was fetched. */
  readonly lazyCacheQuotaBytes: number | undefined;
  /** Whether what an image says that it needs at its start is fetched before a container is. */
  readonly lazyPrefetch: boolean;
  /** How long the start of a container waits for that. */
  readonly lazyPrefetchTimeoutMs: number;
  /** Whether the rest of a layer is fetched while nobody waits. */
  readonly lazyBackgroundFetch: boolean;
  /** How long a read waits for registries that give nothing, before it fails with EIO. */
  readonly lazyFetchTimeoutMs: number;
  /** How long a prepare waits for a layer, before the client is told to unpack it. */
  readonly lazyOpenTimeoutMs: number;
  /** Whether layers are read lazily of which no label says the digest of their table of contents. */
  readonly lazyAllowUnverified: boolean;
  /** Requests to registries at a time. */
  readonly lazyMaxConcurrentFetches: number;
}

export const defaults: Config = {
  root: "/var/lib/oci-worker/snapshotter",
  address: "/run/oci-worker/snapshotter.sock",
  snapshotter: "auto",
  autoExclude: [],
  client: undefined,
  allowSeveralClients: false,
  resolverAddress: undefined,
  logLevel: "info",
  logFormat: "json",
  syncOnCommit: false,
  mountOptions: [],
  upperdirLabel: false,
  drainTimeoutMs: 10_000,
  lazyMode: "auto",
  lazyCacheQuotaBytes: undefined,
  lazyPrefetch: true,
  lazyPrefetchTimeoutMs: 10_000,
  lazyBackgroundFetch: true,
  lazyFetchTimeoutMs: 60_000,
  lazyOpenTimeoutMs: 30_000,
  lazyAllowUnverified: false,
  lazyMaxConcurrentFetches: 8,
};

/**
 * Checks `raw`, a parsed TOML document with the flags laid over it, and fills in {@link defaults}.
 *
 * Refuses keys that it does not know: a misspelt option that is silently ignored is the worst kind of default.
 *
 * @throws {InvalidArgumentError} naming the offending key and what is wanted.
 */
export function parseConfig(raw: Readonly<Record<string, unknown>>): Config {
  refuseUnknownKeys(raw, defaults);
  return {
    root: absolutePath("root", raw["root"] ?? defaults.root),
    address: socketPath("address", raw["address"] ?? defaults.address),
    snapshotter: oneOf("snapshotter", raw["snapshotter"] ?? defaults.snapshotter, snapshotterNames),
    autoExclude: someOf("autoExclude", raw["autoExclude"] ?? defaults.autoExclude, preference),
    client: raw["client"] === undefined ? undefined : text("client", raw["client"]),
    allowSeveralClients: truth(
      "allowSeveralClients",
      raw["allowSeveralClients"] ?? defaults.allowSeveralClients,
    ),
    resolverAddress:
      raw["resolverAddress"] === undefined
        ? undefined
        : socketPath("resolverAddress", raw["resolverAddress"]),
    logLevel: text("logLevel", raw["logLevel"] ?? defaults.logLevel),
    logFormat: oneOf("logFormat", raw["logFormat"] ?? defaults.logFormat, logFormats),
    syncOnCommit: truth("syncOnCommit", raw["syncOnCommit"] ?? defaults.syncOnCommit),
    mountOptions: mountOptions("mountOptions", raw["mountOptions"] ?? defaults.mountOptions),
    upperdirLabel: truth("upperdirLabel", raw["upperdirLabel"] ?? defaults.upperdirLabel),
    drainTimeoutMs: milliseconds("drainTimeoutMs", raw["drainTimeoutMs"] ?? defaults.drainTimeoutMs, 0),
    ...lazySettings((key) => raw[key] ?? defaults[key]),
  };
}

type LazyKey = Extract<keyof Config, `lazy${string}`>;

function lazySettings(settingOf: (key: LazyKey) => unknown): Pick<Config, LazyKey> {
  const truthOf = (key: LazyKey) => truth(key, settingOf(key));
  const timeout = (key: LazyKey) => milliseconds(key, settingOf(key), 1);
  const quota = settingOf("lazyCacheQuotaBytes");
  return {
    lazyMode: oneOf("lazyMode", settingOf("lazyMode"), lazyModes),
    lazyCacheQuotaBytes: quota === undefined ? undefined : wholeNumber("lazyCacheQuotaBytes", quota, 0),
    lazyPrefetch: truthOf("lazyPrefetch"),
    lazyPrefetchTimeoutMs: timeout("lazyPrefetchTimeoutMs"),
    lazyBackgroundFetch: truthOf("lazyBackgroundFetch"),
    lazyFetchTimeoutMs: timeout("lazyFetchTimeoutMs"),
    lazyOpenTimeoutMs: timeout("lazyOpenTimeoutMs"),
    lazyAllowUnverified: truthOf("lazyAllowUnverified"),
    lazyMaxConcurrentFetches: wholeNumber(
      "lazyMaxConcurrentFetches",
      settingOf("lazyMaxConcurrentFetches"),
      1,
    ),
  };
}

function mountOptions(key: string, value: unknown): readonly string[] {
  const options = texts(key, value);
  for (const option of options) {
    const objection = objectionTo(option);
    if (objection !== undefined) {
      throw wrongSetting(key, option, `another option: ${objection}`);
    }
  }
  return options;
}
