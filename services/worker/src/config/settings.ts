/** Values that a setting may have, by kind. */
export interface SettingValues {
  /** A text. */
  readonly text: string;
  /** Texts; the flag may be given more than once. */
  readonly texts: readonly string[];
  /** Yes or no; the flag alone means yes. */
  readonly truth: boolean;
  /** `NAME=VALUE`, more than once; those of flags are laid over those of the file. */
  readonly pairs: Readonly<Record<string, string>>;
}

export type SettingKind = keyof SettingValues;

/** One thing that an operator can set, with the names that buildkitd has for it. */
export interface Setting<K extends SettingKind = SettingKind> {
  readonly kind: K;
  /** Without its dashes; undefined if only the file can set it. */
  readonly flag: string | undefined;
  /** Path in buildkitd.toml; undefined if only the flag can set it. */
  readonly toml: string | undefined;
  readonly fallback: SettingValues[K];
  /** One line for --help. */
  readonly help: string;
}

function setting<K extends SettingKind>(
  kind: K,
  names: { readonly flag?: string; readonly toml?: string },
  fallback: SettingValues[K],
  help: string,
): Setting<K> {
  return { kind, flag: names.flag, toml: names.toml, fallback, help };
}

/**
 * Every setting of the worker, each in one place: spelt once, so that flag, file and reader cannot part ways, as they
 * have upstream where `--oci-cni-config-path` reads a flag that does not exist.
 *
 * Later wins: fallback, file, flag.
 */
export const settings = {
  root: setting(
    "text",
    { flag: "root", toml: "root" },
    "/var/lib/oci-worker/worker",
    "directory of all state",
  ),
  addresses: setting(
    "texts",
    { flag: "addr", toml: "grpc.address" },
    ["unix:///run/oci-worker/worker.sock"],
    "listening address, unix://PATH or fd:// for what systemd passes",
  ),
  group: setting("text", { flag: "group" }, "", "group, by name or id, that may connect"),
  debug: setting("truth", { flag: "debug", toml: "debug" }, false, "log at level debug"),
  logLevel: setting("text", { flag: "log-level", toml: "log.level" }, "info", "least level that is logged"),
  entitlements: setting(
    "texts",
    { flag: "allow-insecure-entitlement", toml: "insecure-entitlements" },
    [],
    "what builds may be granted beyond the sandbox: network.host",
  ),
  workerEnabled: setting(
    "text",
    { flag: "oci-worker", toml: "worker.oci.enabled" },
    "auto",
    "true, false, or auto for whether there is a runtime",
  ),
  workerLabels: setting(
    "pairs",
    { flag: "oci-worker-labels", toml: "worker.oci.labels" },
    {},
    "label of the worker",
  ),
  platforms: setting(
    "texts",
    { flag: "oci-worker-platform", toml: "worker.oci.platforms" },
    [],
    "platform that the worker builds for; default: the machine's own",
  ),
  snapshotter: setting(
    "text",
    { flag: "oci-worker-snapshotter", toml: "worker.oci.snapshotter" },
    "auto",
    "auto, native, overlayfs or fuse-overlayfs",
  ),
  proxySnapshotterPath: setting(
    "text",
    { flag: "oci-worker-proxy-snapshotter-path", toml: "worker.oci.proxySnapshotterPath" },
    "",
    "socket of a snapshotter that runs already, without unix://",
  ),
  networkMode: setting(
    "text",
    { flag: "oci-worker-net", toml: "worker.oci.networkMode" },
    "auto",
    "auto or host",
  ),
  runtimeBinary: setting(
    "text",
    { flag: "oci-worker-binary", toml: "worker.oci.binary" },
    "",
    "runtime; default: the first of buildkit-runc and runc",
  ),
  defaultCgroupParent: setting(
    "text",
    { toml: "worker.oci.defaultCgroupParent" },
    "",
    "parent cgroup of steps that ask for none",
  ),
  containerdWorker: setting(
    "text",
    { flag: "containerd-worker", toml: "worker.containerd.enabled" },
    "auto",
    "there is none: false and auto are accepted",
  ),
  nameservers: setting(
    "texts",
    { toml: "dns.nameservers" },
    [],
    "name servers of steps, in place of the host's",
  ),
  searchDomains: setting("texts", { toml: "dns.searchDomains" }, [], "search domains of steps"),
  dnsOptions: setting("texts", { toml: "dns.options" }, [], "resolver options of steps"),
  resolverAddress: setting(
    "text",
    { flag: "resolver-address" },
    "",
    "socket of a resolver that runs already",
  ),
  sessionAddress: setting(
    "text",
    { flag: "session-address" },
    "",
    "socket on which the resolver asks for credentials of sessions; default: ROOT/session.sock",
  ),
} as const;

export type SettingName = keyof typeof settings;

/** The value of every setting. */
export type Settings = {
  readonly [N in SettingName]: SettingValues[(typeof settings)[N]["kind"]];
};
