import { CanceledError } from "@oci-worker/errdefs";
import type { ContainerExit } from "../executor/executor.ts";
import { howItEnded } from "../ops/exec-failure.ts";
import { ExitError } from "../solver/failure.ts";

/** How a process has ended that a client has started itself. */
export interface ProcessEnd {
  readonly code: number;
  /** In the words that upstream's clients look for; undefined if it has not failed. */
  readonly failure: Error | undefined;
}

/** What a shell says of a process that SIGKILL has ended: 128 and the number of the signal. */
const exitKilled = 137;

export function endOf(exit: ContainerExit): ProcessEnd {
  if (exit.code === 0 && exit.complaint === "") {
    return { code: 0, failure: undefined };
  }
  const { shellCode, reasons } = howItEnded(exit);
  return { code: shellCode, failure: new ExitError(reasons, shellCode) };
}

/**
 * The end of a process that was killed because nobody wants it any more, however far it had come: what the runtime says of
 * one that it was just about to start tells nobody anything.
 */
export const canceledEnd: ProcessEnd = {
  code: exitKilled,
  failure: new CanceledError(`exit code: ${exitKilled}: context canceled`),
};
