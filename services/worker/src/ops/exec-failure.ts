import type { ContainerExit } from "../executor/executor.ts";
import { ExitError } from "../solver/failure.ts";

/** The shell's exit codes for a command that is not there, and for one that may not be run. */
const exitNotFound = 127;
const exitNotExecutable = 126;

/**
 * The failure of a command, in the words that upstream's users and tests look for.
 *
 * @returns undefined if it has not failed.
 * @param valid the exit codes that are none; empty for 0 alone.
 */
export function exitFailure(
  args: readonly string[],
  exit: ContainerExit,
  valid: readonly number[],
): ExitError | undefined {
  const { code, complaint } = exit;
  if (complaint === "" && (valid.length > 0 ? valid : [0]).includes(code)) {
    return undefined;
  }
  const { shellCode, reasons } = howItEnded(exit);
  const command = JSON.stringify(args.join(" "));
  return new ExitError(`process ${command} did not complete successfully: ${reasons}`, shellCode);
}

/** Why a process has failed, in words, and the code a shell would have ended with in its place. */
export function howItEnded({ code, complaint, outOfMemory }: ContainerExit): {
  readonly shellCode: number;
  readonly reasons: string;
} {
  const why = [complaint, outOfMemory ? "cannot allocate memory" : ""].filter(Boolean);
  const shellCode = exitCodeOf(complaint) ?? code;
  return { shellCode, reasons: [...why, `exit code: ${shellCode}`].join(": ") };
}

/** The code a shell would have ended with, where the runtime could not start the command at all. */
function exitCodeOf(complaint: string): number | undefined {
  if (/executable file .*not found|no such file or directory/i.test(complaint)) {
    return exitNotFound;
  }
  return /permission denied|exec format error/i.test(complaint) ? exitNotExecutable : undefined;
}
