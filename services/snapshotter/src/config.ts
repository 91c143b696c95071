import { InvalidArgumentError } from "@oci-worker/errdefs";

/** Every name that `--snapshotter` knows. */
const snapshotterNames = ["auto", "native", "overlayfs", "fuse-overlayfs", "stargz"] as const;

export type SnapshotterName = (typeof snapshotterNames)[number];

/** Everything that an operator can set, checked. Units are in the names. */
export interface Config {
  /** Absolute path of the directory that holds the metadata and the snapshots. One process and one client a root. */
  readonly root: string;
  /** Path of the unix socket that the Snapshots API is served on. */
  readonly address: string;
  /** How snapshots are kept. `auto` takes what the root already has, else the first of overlayfs and native that runs. */
  readonly snapshotter: SnapshotterName;
  /** Path of the resolver's unix socket, which `stargz` asks where layers are; undefined for none. */
  readonly resolverAddress: string | undefined;
  /** Least level of the lines that are logged. At `debug` each call is one. */
  readonly logLevel: string;
  /**
   * Whether a commit waits until everything in the snapshot is on disk, so that no power cut leaves empty files in a
   * layer that is there by name. It waits for other writers of the file system, too.
   */
  readonly syncOnCommit: boolean;
  /** How long calls in flight may go on after SIGTERM. */
  readonly drainTimeoutMs: number;
}

export const defaults: Config = {
  root: "/var/lib/oci-worker/snapshotter",
  address: "/run/oci-worker/snapshotter.sock",
  snapshotter: "auto",
  resolverAddress: undefined,
  logLevel: "info",
  syncOnCommit: false,
  drainTimeoutMs: 10_000,
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
    root: absolutePath("root", raw["root"] ?? defaults.root),
    address: socketPath("address", raw["address"] ?? defaults.address),
    snapshotter: snapshotterName(raw["snapshotter"] ?? defaults.snapshotter),
    resolverAddress:
      raw["resolverAddress"] === undefined
        ? undefined
        : socketPath("resolverAddress", raw["resolverAddress"]),
    logLevel: text("logLevel", raw["logLevel"] ?? defaults.logLevel),
    syncOnCommit: truth("syncOnCommit", raw["syncOnCommit"] ?? defaults.syncOnCommit),
    drainTimeoutMs: milliseconds("drainTimeoutMs", raw["drainTimeoutMs"] ?? defaults.drainTimeoutMs),
  };
}

function snapshotterName(value: unknown): SnapshotterName {
  const name = snapshotterNames.find((known) => known === value);
  if (name === undefined) {
    throw wrong("snapshotter", value, `one of ${snapshotterNames.join(", ")}`);
  }
  return name;
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

/** Without a slash at the end and without doubled ones: the path becomes part of mount options, and is compared. */
function absolutePath(key: string, value: unknown): string {
  const path = text(key, value);
  if (!path.startsWith("/") || path.includes("\0")) {
    throw wrong(key, value, "an absolute path");
  }
  return path.replace(/\/+/g, "/").replace(/(.)\/$/, "$1");
}

function text(key: string, value: unknown): string {
  if (typeof value !== "string" || value === "") {
    throw wrong(key, value, "a text that is not empty");
  }
  return value;
}

function truth(key: string, value: unknown): boolean {
  if (typeof value !== "boolean") {
    throw wrong(key, value, "true or false");
  }
  return value;
}

function milliseconds(key: string, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > maxTimeoutMs) {
    throw wrong(key, value, `a whole number of milliseconds from 0 to ${maxTimeoutMs}`);
  }
  return value;
}

function wrong(key: string, value: unknown, wanted: string): InvalidArgumentError {
  const shown = typeof value === "bigint" ? String(value) : JSON.stringify(value);
  return new InvalidArgumentError(`Cannot read config: ${key} is ${shown}, want ${wanted}`);
}
