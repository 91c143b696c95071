import { type LogFormat, logFormats } from "@oci-worker/daemon/log";
import {
  absolutePath,
  milliseconds,
  oneOf,
  refuseUnknownKeys,
  socketPath,
  text,
  texts,
  wrongSetting,
} from "@oci-worker/daemon/setting";
import { parseStaticEntries, type StaticEntry } from "./credentials/static-entries.ts";
import { parseRegistryTable, type RegistryTable } from "./hosts/registry-table.ts";

/** Keychains that can be configured. `anonymous` is always there and always last. */
const keychainNames = ["session", "docker-config", "kubernetes", "static"] as const;

export type KeychainName = (typeof keychainNames)[number];

/** Everything that an operator can set, checked. Units are in the names. */
export interface Config {
  /** Path of the unix socket that sources are served on. */
  readonly address: string;
  /** Path of the worker's session socket; undefined: there are no sessions to ask. */
  readonly sessionAddress: string | undefined;
  /** Path of the docker `config.json` with the operator's credentials. It may come and go. */
  readonly dockerConfig: string;
  /** Directory that Kubernetes pull secrets are mounted in. They may come and go. */
  readonly pullSecretsDir: string;
  /** Credentials with their secrets in files. */
  readonly static: readonly StaticEntry[];
  /** Keychains in the order in which to try them. */
  readonly keychains: readonly KeychainName[];
  /** How long a token may take to get, retries and the client's own work included. */
  readonly tokenTimeoutMs: number;
  /** How long calls in flight may go on after SIGTERM. */
  readonly drainTimeoutMs: number;
  /** Least level of the lines that are logged. At `debug` each call is one. */
  readonly logLevel: string;
  /** Whether lines are JSON, for machines, or text, for people. */
  readonly logFormat: LogFormat;
  /** Folder with a directory of settings for each registry, as containerd's; undefined: there is none. It may come and go. */
  readonly hostsDir: string | undefined;
  /** A `buildkitd.toml` whose registries count, before `hostsDir`; undefined: there is none. It may come and go. */
  readonly buildkitdConfig: string | undefined;
  /** Mirrors and TLS settings of registries, as in buildkitd.toml. Counts before the others. */
  readonly registry: RegistryTable;
}

export const defaults: Config = {
  address: "/run/oci-worker/resolver.sock",
  sessionAddress: undefined,
  dockerConfig: "/root/.docker/config.json",
  pullSecretsDir: "/etc/oci-worker/pull-secrets",
  static: [],
  keychains: keychainNames,
  tokenTimeoutMs: 30_000,
  drainTimeoutMs: 10_000,
  logLevel: "info",
  logFormat: "json",
  hostsDir: "/etc/containerd/certs.d",
  buildkitdConfig: undefined,
  registry: new Map(),
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
    address: socketPath("address", raw["address"] ?? defaults.address),
    sessionAddress:
      raw["sessionAddress"] === undefined ? undefined : socketPath("sessionAddress", raw["sessionAddress"]),
    dockerConfig: absolutePath("dockerConfig", raw["dockerConfig"] ?? defaults.dockerConfig),
    pullSecretsDir: absolutePath("pullSecretsDir", raw["pullSecretsDir"] ?? defaults.pullSecretsDir),
    static: parseStaticEntries(raw["static"]),
    keychains: keychains(raw["keychains"] ?? defaults.keychains),
    tokenTimeoutMs: milliseconds("tokenTimeoutMs", raw["tokenTimeoutMs"] ?? defaults.tokenTimeoutMs, 1),
    drainTimeoutMs: milliseconds("drainTimeoutMs", raw["drainTimeoutMs"] ?? defaults.drainTimeoutMs, 1),
    logLevel: text("logLevel", raw["logLevel"] ?? defaults.logLevel),
    logFormat: oneOf("logFormat", raw["logFormat"] ?? defaults.logFormat, logFormats),
    hostsDir:
      raw["hostsDir"] === "" ? undefined : absolutePath("hostsDir", raw["hostsDir"] ?? defaults.hostsDir),
    buildkitdConfig:
      raw["buildkitdConfig"] === undefined
        ? undefined
        : absolutePath("buildkitdConfig", raw["buildkitdConfig"]),
    registry: parseRegistryTable(raw["registry"]),
  };
}

function keychains(value: unknown): KeychainName[] {
  const wanted = `a list of different names out of ${keychainNames.join(", ")}`;
  const list = texts("keychains", value);
  if (new Set(list).size !== list.length) {
    throw wrongSetting("keychains", value, wanted);
  }
  return list.map((each) => {
    const name = keychainNames.find((known) => known === each);
    if (name === undefined) {
      throw wrongSetting("keychains", value, wanted);
    }
    return name;
  });
}
