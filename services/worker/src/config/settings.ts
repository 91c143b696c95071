import { accessSettings } from "./groups/access.ts";
import { cacheSettings } from "./groups/cache.ts";
import { deviceSettings } from "./groups/devices.ts";
import { generalSettings } from "./groups/general.ts";
import { historySettings } from "./groups/history.ts";
import { nameSettings } from "./groups/names.ts";
import { networkSettings } from "./groups/networks.ts";
import { otherWorkerSettings } from "./groups/other-worker.ts";
import { resolverSettings } from "./groups/resolver.ts";
import { rootlessSettings } from "./groups/rootless.ts";
import { snapshotSettings } from "./groups/snapshots.ts";
import { stepSettings } from "./groups/steps.ts";
import { systemSettings } from "./groups/system.ts";
import { traceSettings } from "./groups/traces.ts";
import { workerSettings } from "./groups/worker.ts";
import type { Setting, SettingGroup, SettingValue } from "./setting.ts";

/** The settings in the order of --help. */
export const groups: readonly SettingGroup[] = [
  { title: "General", settings: generalSettings },
  { title: "Access", settings: accessSettings },
  { title: "Worker", settings: workerSettings },
  { title: "Steps", settings: stepSettings },
  { title: "Devices", settings: deviceSettings },
  { title: "Snapshots", settings: snapshotSettings },
  { title: "Rootless", settings: rootlessSettings },
  { title: "Networks", settings: networkSettings },
  { title: "Cache", settings: cacheSettings },
  { title: "History", settings: historySettings },
  { title: "System", settings: systemSettings },
  { title: "Traces", settings: traceSettings },
  { title: "Names", settings: nameSettings },
  { title: "Resolver", settings: resolverSettings },
  { title: "The containerd worker", settings: otherWorkerSettings },
];

/**
 * Every setting of the worker, each in one place: spelt once, so that flag, file and reader cannot part ways, as they
 * have upstream where `--oci-cni-config-path` reads a flag that does not exist.
 *
 * A new one goes to its group, with the README's row, a wrong value in refusals.test.ts and its test in effects.test.ts.
 */
export const settings = {
  ...generalSettings,
  ...accessSettings,
  ...workerSettings,
  ...stepSettings,
  ...deviceSettings,
  ...snapshotSettings,
  ...rootlessSettings,
  ...networkSettings,
  ...cacheSettings,
  ...historySettings,
  ...systemSettings,
  ...traceSettings,
  ...nameSettings,
  ...resolverSettings,
  ...otherWorkerSettings,
};

export type SettingName = keyof typeof settings;

/** The value of every setting. */
export type Settings = {
  readonly [N in SettingName]: SettingValue<(typeof settings)[N]>;
};

/** The settings with their names, for those that go through all of them. */
export const allSettings = Object.entries(settings) as [SettingName, Setting][];

/** What one source says of a setting: a flag, a variable, the file. */
export interface Saying {
  readonly value: unknown;
  /** Where it is said, for people: "--root", "root of /etc/buildkit/buildkitd.toml". */
  readonly origin: string;
}

/** What one source says. */
export type Layer = ReadonlyMap<SettingName, Saying>;
