import type { ContainerExit } from "../executor/runc.ts";
import { ExitError } from "../solver/failure.ts";

/** The shell's exit codes for a command that is not there, and for one that may not be run. */
const exitNotFound = 127;
const exitNotExecutable = 126;

/** The failure of a command, in the words that upstream's users and tests look for. */
export function exitFailure(args: readonly string[], { code, complaint }: ContainerExit): ExitError {
  const command = JSON.stringify(args.join(" "));
  if (complaint === "") {
    return new ExitError(`process ${command} did not complete successfully: exit code: ${code}`, code);
  }
  const shellCode = exitCodeOf(complaint) ?? code;
  return new ExitError(
    `process ${command} did not complete successfully: ${complaint}: exit code: ${shellCode}`,
    shellCode,
  );
}

/** The code a shell would have ended with, where the runtime could not start the command at all. */
function exitCodeOf(complaint: string): number | undefined {
  if (/executable file not found|no such file or directory/.test(complaint)) {
    return exitNotFound;
  }
  return /permission denied|exec format error/.test(complaint) ? exitNotExecutable : undefined;
}
