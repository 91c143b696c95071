import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
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
}

/** What upstream says. */
const notMappedRoot =
  "rootless mode requires to be executed as the mapped root in a user namespace; you may use RootlessKit for setting up the namespace";

/**
 * Refuses to go on as a user who is not root, not even in a user namespace.
 *
 * @throws {FailedPreconditionError}
 */
export function requireMappedRoot({ layer }: CommandLine, { isInUserNamespace, uid }: Standing): void {
  // As upstream: who says anything of it, if only no, expects a user namespace.
  if (uid > 0 || (layer.has("workerRootless") && !isInUserNamespace)) {
    throw new FailedPreconditionError(notMappedRoot);
  }
}

/**
 * Refuses what is for a user namespace where there is none: steps would be root, with less around them.
 *
 * @throws {FailedPreconditionError}
 */
export function requireUserNamespace({ isRootless }: Config, { isInUserNamespace }: Standing): void {
  if (isRootless && !isInUserNamespace) {
    throw new FailedPreconditionError(notMappedRoot);
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
