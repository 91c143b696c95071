import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { type ProbedArchitecture, probeProgram } from "./probe-program.ts";

/** An emulator starts within milliseconds; one that hangs is none. */
const timeoutMs = 5000;

/**
 * Finds out whether programs of `architecture` run in a root file system of their own, by running one: on the processor
 * itself, or by an emulator that the kernel has been told of (binfmt_misc) and that it holds open (flag F).
 *
 * @param directory for files that are gone afterwards. Programs may run from there.
 * @returns why they do not; undefined if they do.
 */
export async function obstacleTo(
  architecture: ProbedArchitecture,
  directory: string,
): Promise<string | undefined> {
  const root = join(directory, architecture);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(root, { recursive: true, force: true }));
  await mkdir(root, { recursive: true, mode: 0o700 });
  await writeFile(join(root, "probe"), probeProgram(architecture), { mode: 0o700 });
  try {
    // What the host has for an emulator a container has not: as there, it has to be found without looking for it.
    await promisify(execFile)("chroot", [root, "/probe"], { timeout: timeoutMs, killSignal: "SIGKILL" });
    return undefined;
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
    return said === "" ? String(error) : said;
  }
}
