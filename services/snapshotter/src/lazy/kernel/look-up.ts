import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { FailedPreconditionError } from "@oci-worker/errdefs";

const run = promisify(execFile);

/** Whoever serves has nothing to fetch for this. */
const patienceMs = 30_000;

/**
 * Has another process open the served file `path`, so that the kernel knows it and asks no more. The process that serves
 * must not do so first: one that waits for its own answer cannot be ended, not even killed, and answers nobody any more.
 *
 * @throws {FailedPreconditionError} if it is not there, or nobody answers.
 */
export async function openElsewhere(path: string): Promise<void> {
  await runAt("head", ["-c", "0", "--", path], path);
}

/** The same for a directory, which is only looked at. */
export async function lookAtElsewhere(path: string): Promise<void> {
  await runAt("stat", ["--", path], path);
}

async function runAt(program: string, argv: readonly string[], path: string): Promise<void> {
  try {
    await run(program, argv, { signal: AbortSignal.timeout(patienceMs) });
  } catch (cause) {
    const why =
      cause instanceof Error && cause.name === "AbortError" ? "nobody answers for it" : String(cause);
    throw new FailedPreconditionError(`Cannot open ${path}: ${why}`, { cause });
  }
}
