import { InvalidArgumentError } from "@oci-worker/errdefs";
import { parseRegistryTable, type RegistryTable } from "./hosts/registry-table.ts";

/** Keychains that can be configured. `anonymous` is always there and always last. */
const keychainNames = ["session", "docker-config"] as const;

export type KeychainName = (typeof keychainNames)[number];

/** Everything that an operator can set, checked. Units are in the names. */
export interface Config {
  /** Path of the unix socket that sources are served on. */
  readonly address: string;
  /** Path of the worker's session socket; undefined: there are no sessions to ask. */
  readonly sessionAddress: string | undefined;
  /** Path of the docker `config.json` with the operator's credentials. It may come and go. */
  readonly dockerConfig: string;
  /** Keychains in the order in which to try them. */
  readonly keychains: readonly KeychainName[];
  /** How long a token may take to get, retries and the client's own work included. */
  readonly tokenTimeoutMs: number;
  /** How long calls in flight may go on after SIGTERM. */
  readonly drainTimeoutMs: number;
  /** Least level of the lines that are logged. At `debug` each call is one. */
  readonly logLevel: string;
  /** Mirrors and TLS settings of registries, as in buildkitd.toml. */
  readonly registry: RegistryTable;
}

export const defaults: Config = {
  address: "/run/oci-worker/resolver.sock",
  sessionAddress: undefined,
  dockerConfig: "/root/.docker/config.json",
  keychains: keychainNames,
  tokenTimeoutMs: 30_000,
  drainTimeoutMs: 10_000,
  logLevel: "info",
  registry: new Map(),
};

/** The bytes of sun_path, its NUL left out (unix(7)). */
const maxSocketPathBytes = 107;

/** The largest delay of a timer. */
const maxTimeoutMs = 2 ** 31 - 1;

/**
 * Checks `raw`, a parsed TOML document with the flags laid over it, and fills in {@link defaults}.
 *
 * Refuses keys that it does not know: a misspelt option that is silently ignored is the worst kind of default.
 *
 * @throws {InvalidArgumentError} naming the offending key and what is wanted.
 */
export function parseConfig(raw: Readonly<Record<string, unknown>>): Config {
  const unknown = Object.keys(raw).find((key) => !Object.hasOwn(defaults, key));
  if (unknown !== undefined) {
    const known = Object.keys(defaults).join(", ");
    throw new InvalidArgumentError(
      `Cannot read config: unknown key ${JSON.stringify(unknown)}, want one of ${known}`,
    );
  }
  return {
    address: socketPath("address", raw["address"] ?? defaults.address),
    sessionAddress:
      raw["sessionAddress"] === undefined ? undefined : socketPath("sessionAddress", raw["sessionAddress"]),
    dockerConfig: absolutePath("dockerConfig", raw["dockerConfig"] ?? defaults.dockerConfig),
    keychains: keychains(raw["keychains"] ?? defaults.keychains),
    tokenTimeoutMs: milliseconds("tokenTimeoutMs", raw["tokenTimeoutMs"] ?? defaults.tokenTimeoutMs),
    drainTimeoutMs: milliseconds("drainTimeoutMs", raw["drainTimeoutMs"] ?? defaults.drainTimeoutMs),
    logLevel: text("logLevel", raw["logLevel"] ?? defaults.logLevel),
    registry: parseRegistryTable(raw["registry"]),
  };
}

function keychains(value: unknown): KeychainName[] {
  const wanted = `a list of different names out of ${keychainNames.join(", ")}`;
  if (!Array.isArray(value) || new Set(value).size !== value.length) {
    throw wrong("keychains", value, wanted);
  }
  return value.map((each: unknown) => {
    const name = keychainNames.find((known) => known === each);
    if (name === undefined) {
      throw wrong("keychains", value, wanted);
    }
    return name;
  });
}

function socketPath(key: string, value: unknown): string {
  const path = text(key, value).replace(/^unix:\/\//, "");
  if (!path.startsWith("/") || Buffer.byteLength(path) > maxSocketPathBytes) {
    throw wrong(
      key,
      value,
      `an absolute path of at most ${maxSocketPathBytes} bytes, with or without unix:// before it`,
    );
  }
  return path;
}

function absolutePath(key: string, value: unknown): string {
  const path = text(key, value);
  if (!path.startsWith("/") || path.includes("\0")) {
    throw wrong(key, value, "an absolute path");
  }
  return path;
}

function text(key: string, value: unknown): string {
  if (typeof value !== "string" || value === "") {
    throw wrong(key, value, "a text that is not empty");
  }
  return value;
}

function milliseconds(key: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > maxTimeoutMs) {
    throw wrong(key, value, `a whole number of milliseconds from 1 to ${maxTimeoutMs}`);
  }
  return value;
}

function wrong(key: string, value: unknown, wanted: string): InvalidArgumentError {
  const shown = JSON.stringify(value)?.slice(0, 200) ?? "nothing";
  return new InvalidArgumentError(`Cannot read config: ${key} is ${shown}, want ${wanted}`);
}
