import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import type { Logger } from "pino";
import { processesName, removeBundle, secretStatePath } from "./bundle.ts";
import type { Runc } from "./runc.ts";
import { StepProcesses } from "./step-processes.ts";

interface Leftovers {
  /** Holds the bundles. */
  readonly directory: string;
  readonly runc: Runc;
  readonly log: Logger;
}

/** Removes what a process that was killed has left: containers, mounts, bundles. */
export async function removeLeftovers({ directory, runc, log }: Leftovers): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o711 });
  await removeContainers(runc, log);
  for (const name of await readdir(directory)) {
    const state = join(directory, name, secretStatePath);
    if (existsSync(state)) {
      await removeContainers(runc.withState(state), log);
    }
    const processes = StepProcesses.of(join(directory, name, processesName));
    if (processes !== undefined) {
      log.warn({ step: name, killed: await processes.kill() }, "processes of an earlier run killed");
    }
  }
  const mountPoints = await unmountBeneath(directory);
  if (mountPoints.length > 0) {
    log.warn({ mountPoints }, "mounts of an earlier run undone");
  }
  for (const name of await readdir(directory)) {
    await removeBundle(join(directory, name));
  }
}

async function removeContainers(runc: Runc, log: Logger): Promise<void> {
  for (const id of await runc.list()) {
    log.warn({ container: id }, "container of an earlier run removed");
    await runc.delete(id);
  }
}
