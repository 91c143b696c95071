import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";

/** The names under which buildkitd looks for a runtime. */
const defaultBinaries = ["buildkit-runc", "runc"];

/**
 * Finds the runtime that `binary` names.
 *
 * @throws {NotFoundError} naming what was looked for and where.
 */
export async function findRuntime(binary: string): Promise<string> {
  const names = binary === "" ? defaultBinaries : [binary];
  const directories = (process.env["PATH"] ?? "").split(delimiter);
  for (const name of names) {
    const candidates = name.includes("/") ? [name] : directories.map((directory) => join(directory, name));
    for (const candidate of candidates) {
      if (await isExecutable(candidate)) {
        return candidate;
      }
    }
  }
  throw new NotFoundError(
    `Cannot find a container runtime: no ${names.join(" or ")} on PATH, want runc installed`,
  );
}

/**
 * Checks that a worker is wanted and can be.
 *
 * @throws {FailedPreconditionError} if it is turned off.
 * @throws {NotFoundError} if there is no runtime.
 */
export async function requireRuntime(enabled: boolean | "auto", binary: string): Promise<string> {
  if (enabled === false) {
    throw new FailedPreconditionError("no worker found: the OCI worker is turned off, and there is no other");
  }
  return await findRuntime(binary);
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
