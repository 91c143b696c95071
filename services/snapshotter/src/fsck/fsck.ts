import { existsSync } from "node:fs";
import { lockRoot } from "@oci-worker/daemon/lock-root";
import { FailedPreconditionError, NotFoundError } from "@oci-worker/errdefs";
import { describe } from "./describe.ts";
import { examine } from "./examine.ts";
import { repairRoot } from "./repair.ts";
import type { Report } from "./report.ts";
import { readRoot } from "./root-state.ts";

/** Mending one thing can bring another to light: one that was hidden in rows that could not be read. */
const maxRounds = 3;

/**
 * Checks what a snapshotter has left in `root`, and mends it if `repairs` says so.
 *
 * @throws {NotFoundError} if there is no such root.
 * @throws {FailedPreconditionError} if a process has it, with its pid; or if it is that of another program.
 */
export async function checkRoot(root: string, repairs: boolean): Promise<Report> {
  if (!existsSync(root)) {
    throw new NotFoundError(`Cannot check ${root}: it is not there`);
  }
  if (!existsSync(`${root}/snapshots`) && !existsSync(`${root}/metadata.db`)) {
    throw new FailedPreconditionError(
      `Cannot check ${root}: want the root of a snapshotter, with metadata.db and snapshots in it`,
    );
  }
  await using _lock = await lockRoot(root, "lock");
  let state = readRoot(root);
  let examination = examine(state);
  const findings = describe(state, examination);
  let remaining = findings;
  for (let round = 0; repairs && remaining.length > 0 && round < maxRounds; round += 1) {
    repairRoot(state, examination);
    state = readRoot(root);
    examination = examine(state);
    remaining = describe(state, examination);
  }
  return { root, snapshots: state.rows.length, findings, repairs, remaining };
}
