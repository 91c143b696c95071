import { join } from "node:path";
import { InvalidArgumentError } from "@oci-worker/errdefs";
import { deviceSettings } from "./groups/devices.ts";
import type { Layer, SettingName, Settings } from "./settings.ts";
import { allSettings } from "./settings.ts";

export type { Entitlement } from "./groups/access.ts";

/** Everything that the worker goes by, checked. */
export interface Config extends Omit<Settings, "entitlements" | "sessionSocketPath" | "traceSocketPath"> {
  readonly entitlements: ReadonlySet<Settings["entitlements"][number]>;
  readonly sessionSocketPath: string;
  readonly traceSocketPath: string;
  /** Whether steps run as a user namespace allows it. */
  readonly isRootless: boolean;
  /** How steps look up names; an empty list leaves the host's. */
  readonly dns: {
    readonly nameservers: readonly string[];
    readonly searchDomains: readonly string[];
    readonly options: readonly string[];
  };
}

/** A config, and where each of its values comes from. */
export interface Resolved {
  readonly config: Config;
  readonly origins: ReadonlyMap<SettingName, string>;
}

/** Where the value of a setting comes from if nobody says anything of it. */
export const defaultOrigin = "default";

/**
 * Puts together what flags, environment and file say, and checks what one setting means for another.
 *
 * @param layers the later, the stronger.
 * @throws {InvalidArgumentError} naming the settings that do not go together, in upstream's words where clients know them.
 */
export function resolveConfig(...layers: readonly Layer[]): Resolved {
  const values: Partial<Record<SettingName, unknown>> = {};
  const origins = new Map<SettingName, string>();
  for (const [name, { kind, fallback }] of allSettings) {
    const sayings = layers.map((layer) => layer.get(name)).filter((saying) => saying !== undefined);
    const last = sayings.at(-1);
    const all = kind.overlay === undefined ? sayings.slice(-1) : sayings;
    values[name] =
      last === undefined
        ? fallback
        : all.map(({ value }) => value).reduce((weaker, stronger) => kind.overlay?.(weaker, stronger));
    origins.set(name, all.map(({ origin }) => origin).join(" and ") || defaultOrigin);
  }
  const config = completed(values as Settings);
  const louder = config.trace ? "trace" : config.debug ? "debug" : undefined;
  if (louder !== undefined) {
    origins.set("logLevel", origins.get(louder) ?? defaultOrigin);
  }
  if (config.networkMode !== values.networkMode) {
    origins.set("networkMode", "rootless, so not auto");
  }
  return { config, origins };
}

/** Fills in what follows from other settings, and refuses what contradicts itself. */
function completed(settings: Settings): Config {
  if (settings.addresses.length === 0) {
    throw new InvalidArgumentError("--addr cannot be empty");
  }
  requireWholePair(settings);
  if (settings.cdiDisabled && settings.entitlements.includes("device")) {
    throw new InvalidArgumentError(
      "Cannot grant the entitlement device: CDI is disabled, want --cdi-disabled or the entitlement left out",
    );
  }
  const isRootless = settings.workerRootless ?? settings.rootless ?? false;
  if (settings.noProcessSandbox && !isRootless) {
    throw new InvalidArgumentError(
      "can't enable NoProcessSandbox without Rootless, want --oci-worker-no-process-sandbox in a user namespace only",
    );
  }
  return {
    ...settings,
    isRootless,
    // What a configuration of CNI says is for root; who wants it all the same says so.
    networkMode: isRootless && settings.networkMode === "auto" ? "host" : settings.networkMode,
    addresses: [...new Set(settings.addresses)],
    // As upstream: who wants no directory disables CDI.
    cdiSpecDirs: settings.cdiSpecDirs.length > 0 ? settings.cdiSpecDirs : deviceSettings.cdiSpecDirs.fallback,
    entitlements: new Set(settings.entitlements),
    logLevel: settings.trace ? "trace" : settings.debug ? "debug" : settings.logLevel,
    dns: {
      nameservers: settings.nameservers,
      searchDomains: settings.searchDomains,
      options: settings.dnsOptions,
    },
    sessionSocketPath: settings.sessionSocketPath ?? join(settings.root, "session.sock"),
    traceSocketPath: settings.traceSocketPath ?? join(settings.root, "otel-grpc.sock"),
  };
}

/** @throws {InvalidArgumentError} in upstream's words, and with the flag that is missing. */
function requireWholePair({ tlsCert, tlsKey, tlsCa }: Settings): void {
  const given = Object.entries({ "--tlscert": tlsCert, "--tlskey": tlsKey, "--tlscacert": tlsCa });
  const [flag, path] = given.find(([, value]) => value !== undefined) ?? [];
  const missing = given.filter(([name, value]) => value === undefined && name !== "--tlscacert");
  if (path !== undefined && missing.length > 0) {
    const wanted = missing.map(([name]) => name).join(" and ");
    throw new InvalidArgumentError(
      `Cannot use ${flag} ${path}: you must specify key and cert file if one is specified, want ${wanted} as well`,
    );
  }
}
