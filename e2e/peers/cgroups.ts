import assert from "node:assert/strict";
import { glob, readdir, readFile, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { CanceledError } from "@oci-worker/errdefs";
import { definitionOf, type RunOptions, run } from "@oci-worker/llb/build";
import type { WorkerPeer } from "./worker.ts";

/**
 * The cgroups of a step that waits in `options.root`, a line for each as in /proc/PID/cgroup, and ends it. They are seen from
 * outside: the step itself may see its own as the root.
 */
export async function cgroupsOfStep(
  { client, root }: Pick<WorkerPeer, "client" | "root">,
  options: Pick<RunOptions, "root" | "cgroupParent">,
): Promise<string> {
  const ending = new AbortController();
  const waiting = run({ ...options, args: ["sh", "-c", "echo started; sleep 3000"], env: ["PATH=/bin"] });
  const build = client.solve(definitionOf(waiting.root), { signal: ending.signal });
  build.result.catch(() => undefined);
  let cgroups = "";
  for await (const { logs } of build.status) {
    if (logs.length > 0 && !ending.signal.aborted) {
      const [bundle = ""] = await readdir(join(root, "executor"));
      cgroups = await readFile(`/proc/${await pidIn(join(root, "executor", bundle, "pid"))}/cgroup`, "utf8");
      ending.abort();
    }
  }
  await assert.rejects(build.result, CanceledError);
  return cgroups;
}

/** What the runtime writes to a file when the process runs, which may have printed something by then. */
async function pidIn(path: string): Promise<number> {
  for (;;) {
    const pid = Number(await readFile(path, "utf8").catch(() => ""));
    if (pid > 0) {
      return pid;
    }
    await setImmediate();
  }
}

/**
 * Removes the cgroup `name` and what a worker has made in it, in each hierarchy of version 1, or the one of version 2: a
 * runtime leaves what is above the cgroups that it has removed.
 */
export async function removeCgroups(name: string): Promise<void> {
  for (const path of [`${name}/buildkit`, name]) {
    for await (const directory of glob(`/sys/fs/cgroup/{*/,}${path}`)) {
      await rmdir(directory);
    }
  }
}
