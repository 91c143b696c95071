import type { FlagSpecs, ParsedArgs } from "../args/flags.ts";
import { UsageError } from "../args/usage-error.ts";
import { askedMode, type ProgressMode, progressModes } from "../progress/display.ts";
import type { Terminal } from "../terminal.ts";

/** The flag of commands that take long. */
export const progressFlag = {
  progress: {
    value: "MODE",
    choices: progressModes,
    help: "show progress as auto, plain, tty or quiet (default $BUILDKIT_PROGRESS, or auto)",
  },
} as const satisfies FlagSpecs;

/** What {@link progressFlag} says. */
export function progressOf(flags: ParsedArgs["flags"]): ProgressMode {
  return (flags["progress"]?.[0] ?? "auto") as ProgressMode;
}

/** @throws {UsageError} if what is asked for is only for a terminal, and there is none, or is nothing that there is. */
export function requireTerminal(mode: ProgressMode, { stderr, env }: Pick<Terminal, "stderr" | "env">): void {
  if (askedMode(mode, env) === "tty" && stderr.isTTY !== true) {
    const asked = mode === "tty" ? "--progress tty" : "BUILDKIT_PROGRESS=tty";
    throw new UsageError(`Cannot show ${asked}: standard error is no terminal`);
  }
}
