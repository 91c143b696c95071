import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { NotFoundError } from "@oci-worker/errdefs";

/** Set by the programs' launchers: the directory of the name under which this program was started. */
const directoryVariable = "OCI_WORKER_PROGRAMS";

/**
 * Finds a program of this project: beside the one that runs, else on PATH.
 *
 * @throws {NotFoundError} naming where it was looked for.
 */
export async function findProgram(name: string, environment: NodeJS.ProcessEnv): Promise<string> {
  const beside = environment[directoryVariable];
  const onPath = (environment["PATH"] ?? "").split(delimiter).filter(Boolean);
  const directories = [...(beside === undefined ? [] : [beside]), ...onPath];
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // The next place may have it.
    }
  }
  throw new NotFoundError(
    `Cannot start ${name}: there is no such program in ${directories.join(", ")}; install it, or name one that runs already`,
  );
}
