import type { TomlTable } from "smol-toml";
import { defaultOrigin, type Resolved } from "./config.ts";
import { registryKey } from "./registries.ts";
import type { SettingName } from "./settings.ts";

/** What the rules of `[[worker.oci.gcpolicy]]` take the place of. */
const limits = ["reservedSpace", "maxUsedSpace", "minFreeSpace", "gcKeepStorage"] as const;

/**
 * Which settings have no effect because of what others say, and why. Each may have been meant, but not with the others.
 *
 * @param registry the table of the file.
 * @param path of the file.
 */
export function idleSettings({ config, origins }: Resolved, registry: TomlTable, path: string): string[] {
  const { lazySettings, proxySnapshotterPath, resolverAddress, snapshotter, gcPolicies } = config;
  const said = (name: SettingName) => {
    const origin = origins.get(name);
    return origin === defaultOrigin ? undefined : origin;
  };
  const idle = (origin: string | undefined, why: string) =>
    origin === undefined ? [] : [`${origin} has no effect: ${why}`];
  const hasRegistries = Object.keys(registry).length > 0;
  const lazy = Object.keys(lazySettings).length > 0 ? said("lazySettings") : undefined;
  return [
    ...(resolverAddress === undefined
      ? []
      : idle(
          hasRegistries ? `[${registryKey}] of ${path}` : undefined,
          `the resolver at ${resolverAddress} goes by a file of its own, want it there`,
        )),
    ...(proxySnapshotterPath === undefined
      ? []
      : idle(lazy, `the snapshotter at ${proxySnapshotterPath} goes by a file of its own, want it there`)),
    ...(proxySnapshotterPath !== undefined || snapshotter === "stargz"
      ? []
      : idle(lazy, `snapshotter is ${snapshotter}, which has no lazy layers, want stargz`)),
    ...(gcPolicies === undefined
      ? []
      : limits.flatMap((name) => idle(said(name), "worker.oci.gcpolicy says what is kept, want it there"))),
  ];
}
