import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { AppArmorStanding } from "./apparmor.ts";
import type { Config } from "./config.ts";
import type { CommandLine } from "./flags.ts";
import { defaultConfigFile } from "./paths.ts";
import { readText } from "./say.ts";
import { type Layer, type Saying, type SettingName, settings } from "./settings.ts";

/** What of the process decides whether it is rootless, and as whose. */
export interface Standing {
  readonly isInUserNamespace: boolean;
  /** As seen from inside. */
  readonly uid: number;
  readonly environment: NodeJS.ProcessEnv;
  readonly appArmor: AppArmorStanding;
}

/** What upstream says. */
const notMappedRoot =
  "rootless mode requires to be executed as the mapped root in a user namespace; you may use RootlessKit for setting up the namespace";

const wantedProfile = 'want a profile for rootlesskit that has "userns," in it (deploy/README.md)';

/** The profile that Ubuntu puts programs in that make a user namespace and have none; it denies every capability. */
const deniedProfile = "unprivileged_userns";

/**
 * Refuses to go on as a user who is not root, not even in a user namespace.
 *
 * @throws {FailedPreconditionError}
 */
export function requireMappedRoot(
  { layer }: CommandLine,
  { isInUserNamespace, uid, appArmor }: Standing,
): void {
  // As upstream: who says anything of it, if only no, expects a user namespace.
  if (uid > 0 || (layer.has("workerRootless") && !isInUserNamespace)) {
    // RootlessKit itself only says that permission was denied.
    const obstacle = appArmor.restrictsUserNamespaces
      ? `; AppArmor lets no program of this host set one up without a profile (kernel.apparmor_restrict_unprivileged_userns is 1): ${wantedProfile}`
      : "";
    throw new FailedPreconditionError(notMappedRoot + obstacle);
  }
}

/**
 * Refuses what is for a user namespace where there is none: steps would be root, with less around them. Refuses, too, a
 * user namespace in which root may do nothing.
 *
 * @throws {FailedPreconditionError}
 */
export function requireUserNamespace(
  { isRootless }: Config,
  { isInUserNamespace, appArmor }: Standing,
): void {
  if (isRootless && !isInUserNamespace) {
    throw new FailedPreconditionError(notMappedRoot);
  }
  if (isInUserNamespace && appArmor.profile === deniedProfile) {
    throw new FailedPreconditionError(
      `Cannot run in this user namespace: AppArmor denies it every capability (profile ${deniedProfile}), ${wantedProfile}`,
    );
  }
}

/** The file that is read if no other one is named: the user's own where that is who runs the worker. */
export function configFileOf(standing: Standing): string {
  return isUsers(standing)
    ? join(userDirectory(standing.environment, "XDG_CONFIG_HOME", ".config"), "buildkit/buildkitd.toml")
    : defaultConfigFile;
}

/** What holds for a worker in a user namespace if nobody says otherwise: it is rootless, and its places are the user's. */
export function rootlessDefaults(standing: Standing): Layer {
  const layer = new Map<SettingName, Saying>();
  if (!standing.isInUserNamespace) {
    return layer;
  }
  const origin = "default in a user namespace";
  layer.set("rootless", { value: true, origin });
  if (!isUsers(standing)) {
    return layer;
  }
  const { environment } = standing;
  const data = userDirectory(environment, "XDG_DATA_HOME", ".local/share");
  const say = (name: SettingName, text: string) =>
    layer.set(name, { value: readText(settings[name], text, origin), origin });
  say("root", join(data, "oci-worker/worker"));
  say("cniConfigPath", join(userDirectory(environment, "XDG_CONFIG_HOME", ".config"), "buildkit/cni.json"));
  const runtime = firstOf(environment["XDG_RUNTIME_DIR"]);
  if (runtime !== undefined) {
    say("addresses", `unix://${join(runtime, "oci-worker/worker.sock")}`);
  }
  return layer;
}

/** In a container the mapped root may have root's home, or none; then its places are those of a root (BuildKit, main.go). */
function isUsers({ isInUserNamespace, environment }: Standing): boolean {
  const { USER: user = "", HOME: home = "" } = environment;
  return isInUserNamespace && user !== "" && user !== "root" && home.startsWith("/");
}

/** A directory of the XDG base directory specification, or what it is in the home directory by default. */
function userDirectory(environment: NodeJS.ProcessEnv, variable: string, byDefault: string): string {
  return firstOf(environment[variable]) ?? join(environment["HOME"] ?? "/", byDefault);
}

/** The first of several, as pam_systemd may give them. Relative ones are to be overlooked. */
function firstOf(directories: string | undefined): string | undefined {
  return directories?.split(":").find((directory) => directory.startsWith("/"));
}
