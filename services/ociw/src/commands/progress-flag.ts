import type { FlagSpecs, ParsedArgs } from "../args/flags.ts";
import { UsageError } from "../args/usage-error.ts";
import { type ProgressMode, progressModes } from "../progress/display.ts";
import type { Terminal } from "../terminal.ts";

/** The flag of commands that take long. */
export const progressFlag = {
  progress: {
    value: "MODE",
    choices: progressModes,
    help: "show progress as auto, plain, tty or quiet (default auto)",
  },
} as const satisfies FlagSpecs;

/** What {@link progressFlag} says. */
export function progressOf(flags: ParsedArgs["flags"]): ProgressMode {
  return (flags["progress"]?.[0] ?? "auto") as ProgressMode;
}

/** @throws {UsageError} if `mode` is only for a terminal, and there is none. */
export function requireTerminal(mode: ProgressMode, { stderr }: Pick<Terminal, "stderr">): void {
  if (mode === "tty" && stderr.isTTY !== true) {
    throw new UsageError("Cannot show --progress tty: standard error is no terminal");
  }
}
