import { readFile } from "node:fs/promises";
import { FailedPreconditionError, NotFoundError, PermissionDeniedError } from "@oci-worker/errdefs";
import { readOrEmpty } from "../read-or-empty.ts";
import { codeOf } from "./error-code.ts";

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
 * Checks that this host has the AppArmor profile that steps are to be confined by. Better to fail at start than to run a
 * step without.
 *
 * @param apparmorProfile its name; empty for none.
 * @throws {FailedPreconditionError} if the kernel has no AppArmor, or does not tell of it here.
 * @throws {PermissionDeniedError} if this process may not be told which profiles are loaded, as in a user namespace.
 * @throws {NotFoundError} if the profile is not loaded.
 */
export async function requireAppArmor(apparmorProfile: string, files = appArmorFiles): Promise<void> {
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
    const code = codeOf(error);
    if (code === "ENOENT") {
      throw new FailedPreconditionError(`${wanted}: there is no ${path}, want securityfs mounted`);
    }
    if (code === "EACCES" || code === "EPERM") {
      throw new PermissionDeniedError(`${wanted}: ${path} may not be read, want a worker of root's`);
    }
    throw error;
  }
}
