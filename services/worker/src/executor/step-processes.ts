import { readdir, readlink } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { isPinned, linkOf, pinNamespace, unpinNamespace } from "../pinned-namespace.ts";
import { pidIn } from "./pid-file.ts";

/** A step's first process is looked at this often. */
const pauseMs = 50;

/** Processes that multiply faster than we end them are given up after so many looks. */
const maxLooks = 1000;

/**
 * The processes of a step that has no pid name space, so that they do not end with its first one: they are known by an IPC
 * name space that was made for them, which a process in the sandbox cannot leave.
 */
export class StepProcesses implements AsyncDisposable {
  /** Where the name space is. */
  readonly namespacePath: string;

  private constructor(namespacePath: string) {
    this.namespacePath = namespacePath;
  }

  /** @param namespacePath of a file that is made. */
  static async begin(namespacePath: string): Promise<StepProcesses> {
    await pinNamespace("ipc", namespacePath);
    return new StepProcesses(namespacePath);
  }

  /** Those of a step of an earlier worker, if there is something at `namespacePath`. */
  static of(namespacePath: string): StepProcesses | undefined {
    return isPinned(namespacePath) ? new StepProcesses(namespacePath) : undefined;
  }

  /**
   * Kills all of them that there still are, and looks again until there are none.
   *
   * @returns how many were killed.
   */
  async kill(): Promise<number> {
    const link = await linkOf("ipc", this.namespacePath);
    const killed = new Set<number>();
    for (let looks = 0; looks < maxLooks; looks += 1) {
      const found = await processesIn(link);
      if (found.length === 0) {
        break;
      }
      for (const pid of found) {
        killed.add(pid);
        killIfThere(pid);
      }
    }
    return killed.size;
  }

  /**
   * Waits until the first of them has ended, and kills the others.
   *
   * @param pidFile that the runtime writes when it has started the first one.
   * @param signal ends the wait.
   */
  async killAfterFirst(pidFile: string, signal: AbortSignal): Promise<void> {
    const link = await linkOf("ipc", this.namespacePath);
    while (!signal.aborted) {
      const pid = await pidIn(pidFile);
      if (pid !== undefined && (await namespaceOf(pid)) !== link) {
        await this.kill();
        return;
      }
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Kills them, and lets go of the name space. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await unpinNamespace(this.namespacePath);
  }
}

async function processesIn(link: string): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const links = await Promise.all(pids.map(namespaceOf));
  return pids.filter((_, index) => links[index] === link);
}

/** Undefined for one that has ended, or is a zombie, or another user's. */
async function namespaceOf(pid: number): Promise<string | undefined> {
  return await readlink(`/proc/${pid}/ns/ipc`).catch(() => undefined);
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has just ended.
  }
}
