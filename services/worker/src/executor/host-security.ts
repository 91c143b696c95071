import { readFile } from "node:fs/promises";
import {
  FailedPreconditionError,
  NotFoundError,
  PermissionDeniedError,
  UnimplementedError,
} from "@oci-worker/errdefs";

/** Security modules of the kernel that the operator wants steps to be confined by. */
export interface HostSecurity {
  /** Name of an AppArmor profile that is loaded; empty for none. */
  readonly apparmorProfile: string;
  readonly selinux: boolean;
}

/** Where the kernel tells of AppArmor. */
export interface AppArmorFiles {
  readonly enabled: string;
  /** A line for each profile that is loaded: its name and its mode. */
  readonly profiles: string;
}

const appArmorFiles: AppArmorFiles = {
  enabled: "/sys/module/apparmor/parameters/enabled",
  profiles: "/sys/kernel/security/apparmor/profiles",
};

/**
 * Checks that this host has what steps are to be confined by. Better to fail at start than to run a step without.
 *
 * @throws {FailedPreconditionError} if the kernel has no AppArmor, or does not tell of it here.
 * @throws {PermissionDeniedError} if this process may not be told which profiles are loaded, as in a user namespace.
 * @throws {NotFoundError} if the profile is not loaded.
 * @throws {UnimplementedError} for SELinux: steps get no labels.
 */
export async function requireHostSecurity(
  { apparmorProfile, selinux }: HostSecurity,
  files = appArmorFiles,
): Promise<void> {
  if (selinux) {
    throw new UnimplementedError(
      "Cannot use --oci-worker-selinux=true: this worker gives steps no labels, want false",
    );
  }
  if (apparmorProfile === "") {
    return;
  }
  const wanted = `Cannot use AppArmor profile ${JSON.stringify(apparmorProfile)}`;
  if ((await readOrEmpty(files.enabled)).trim() !== "Y") {
    throw new FailedPreconditionError(`${wanted}: AppArmor is not enabled in this kernel, want no profile`);
  }
  const loaded = (await loadedProfiles(files.profiles, wanted)).split("\n");
  if (!loaded.some((line) => line.replace(/ \(\w+\)$/, "") === apparmorProfile)) {
    throw new NotFoundError(`${wanted}: it is not loaded, want it loaded with apparmor_parser`);
  }
}

async function loadedProfiles(path: string, wanted: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT") {
      throw new FailedPreconditionError(`${wanted}: there is no ${path}, want securityfs mounted`);
    }
    if (code === "EACCES" || code === "EPERM") {
      throw new PermissionDeniedError(`${wanted}: ${path} may not be read, want a worker of root's`);
    }
    throw error;
  }
}

async function readOrEmpty(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return "";
    }
    throw error;
  }
}
