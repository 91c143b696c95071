import { ResourceExhaustedError } from "@oci-worker/errdefs";

const whatRunsOut: Readonly<Record<string, string>> = {
  EDQUOT: "the disk quota is used up",
  EMFILE: "this process has as many files open as it may",
  ENFILE: "the machine has as many files open as it can",
  ENOMEM: "there is no memory left",
  ENOSPC: "there is no space left on the disk",
};

/**
 * What people are told of a failure to get a step ready: that the machine has run out of something is said as it is, for
 * they can help it.
 *
 * @returns `thrown` itself if it is anything else.
 */
export function hostFailure(thrown: unknown): unknown {
  if (!(thrown instanceof Error && "code" in thrown)) {
    return thrown;
  }
  const what = whatRunsOut[String(thrown.code)];
  return what === undefined
    ? thrown
    : new ResourceExhaustedError(`Cannot run the step: ${what}`, { cause: thrown });
}
