import { access, constants, stat } from "node:fs/promises";
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
 * @throws {NotFoundError} if there is no runtime, in upstream's words if it was left to us to find out.
 */
export async function requireRuntime(enabled: boolean | "auto", binary: string): Promise<string> {
  if (enabled === false) {
    throw new FailedPreconditionError(
      "no worker found: the OCI worker is turned off and there is no other, want --oci-worker=auto or true",
    );
  }
  try {
    return await findRuntime(binary);
  } catch (cause) {
    if (enabled === "auto" && cause instanceof NotFoundError) {
      // Upstream goes on to look for its other worker, and says this when there is none either.
      throw new NotFoundError(
        `no worker found: skipping oci worker, as runc does not exist: ${cause.message}`,
        {
          cause,
        },
      );
    }
    throw cause;
  }
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
