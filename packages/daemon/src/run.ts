import { ServiceError } from "@oci-worker/errdefs";
import { signalOnParentDeath } from "@oci-worker/libc/process";
import type { Logger } from "pino";
import { createLog } from "./log.ts";

/** Set by a service that starts another as its child: the child then ends with its parent, however that ends. */
export const parentVariable = "OCI_WORKER_PARENT_PID";

const SIGTERM = 15;

/**
 * Runs a program to its end. What it throws is told in one line, for a person on standard error and for a machine in
 * the log, and makes the exit code 1.
 *
 * @param start reads flags and config; what it throws is told like the rest.
 */
export async function runProgram(name: string, start: () => Promise<void>): Promise<void> {
  try {
    endWithParent(process.env);
    await start();
  } catch (error) {
    process.exitCode = 1;
    tell(createLog(name, "info"), error);
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}

/** An error that we wrote for the operator needs no stack trace. */
function tell(log: Logger, error: unknown): void {
  if (error instanceof ServiceError) {
    log.fatal({ reason: error.message }, "cannot go on");
  } else {
    log.fatal({ err: error }, "cannot go on");
  }
}

function endWithParent(environment: NodeJS.ProcessEnv): void {
  const parent = environment[parentVariable];
  if (parent === undefined) {
    return;
  }
  signalOnParentDeath(SIGTERM);
  if (process.ppid !== Number(parent)) {
    // It died before the kernel was asked to watch it.
    process.kill(process.pid, "SIGTERM");
  }
}
