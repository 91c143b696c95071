import type { NetworkProxy } from "../network/network.ts";
import type { SpecMount } from "./oci-spec.ts";
import type { Step } from "./step.ts";
import type { StepMountParts } from "./step-mounts.ts";
import { TrustBundles, trustMounts } from "./trust-bundles.ts";

/** The environment `env` with the variables of `proxy` in place of its own: what else they name is out of reach. */
export function proxiedEnvironment(env: readonly string[], proxy: NetworkProxy | undefined): string[] {
  const variables = proxy?.variables ?? new Map<string, string>();
  const others = env.filter((variable) => !variables.has(variable.slice(0, variable.indexOf("="))));
  return [...others, ...[...variables].map(([name, value]) => `${name}=${value}`)];
}

/**
 * Has the programs of a step trust `proxy`, if it has one, until `undo` is disposed of.
 *
 * @returns the mounts that this takes.
 */
export async function trustProxy(
  proxy: NetworkProxy | undefined,
  { readonlyRootfs }: Step,
  rootfsPath: string,
  { memory, undo }: Pick<StepMountParts, "memory" | "undo">,
): Promise<SpecMount[]> {
  if (proxy === undefined) {
    return [];
  }
  if (readonlyRootfs) {
    return await trustMounts(rootfsPath, proxy.authority, await memory.path());
  }
  undo.use(new TrustBundles(rootfsPath, proxy.authority));
  return [];
}
