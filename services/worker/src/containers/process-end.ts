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

/** @param isCanceled whether it was to be killed. */
export function endOf(exit: ContainerExit, isCanceled: boolean): ProcessEnd {
  if (exit.code === 0 && exit.complaint === "") {
    return { code: 0, failure: undefined };
  }
  const { shellCode, reasons } = howItEnded(exit);
  const failure = isCanceled
    ? new CanceledError(`${reasons}: context canceled`)
    : new ExitError(reasons, shellCode);
  return { code: shellCode, failure };
}
