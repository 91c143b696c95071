import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { UnavailableError } from "@oci-worker/errdefs";

const run = promisify(execFile);

/** One call of runc that only signals or deletes; one that hangs is given up. */
const commandTimeoutMs = 7000;

/** SIGKILL is sent again after so long: the first ones come too early while the runtime still sets the container up. */
const killPauseMs = 50;

/** A runtime that has not ended so long after its container was first killed is killed itself. */
const killPatienceMs = 10_000;

/** Of what a runtime says that cannot write its log either; a disk that is full leaves it nothing else. */
const maxLastWords = 1000;

/** A runtime that has not started its container by then never will; a machine under load takes seconds. */
const defaultStartTimeoutMs = 60_000;

/** What a step writes to its standard output (1) or standard error (2). */
export type OutputListener = (stream: 1 | 2, chunk: Buffer) => void;

/** How a container has ended. */
export interface ContainerExit {
  readonly code: number;
  /** What the runtime itself complained of, such as a command that is not there; empty if nothing. */
  readonly complaint: string;
  /** The kernel has killed processes for want of memory while it ran. */
  readonly outOfMemory: boolean;
}

/** What the runtime itself knows of that. */
export type RuntimeExit = Omit<ContainerExit, "outOfMemory">;

export interface RuncOptions {
  /** The runtime: a name to be found on PATH, or a path. Empty: the first of buildkit-runc and runc. */
  readonly binary: string;
  /** Where runc keeps the state of its containers. Ours alone, so that all of them are ours to clean up. */
  readonly stateDirectory: string;
  /** How long the runtime may take until the step's process runs. */
  readonly startTimeoutMs?: number;
}

/** An OCI runtime with runc's command line: runc, crun, buildkit-runc. */
export class Runc {
  readonly #options: RuncOptions;

  constructor(options: RuncOptions) {
    this.#options = options;
  }

  /**
   * Runs the container of `bundle` to its end.
   *
   * @param signal kills the container; the promise still settles only when it has ended.
   * @throws {UnavailableError} if the runtime cannot be started, does not start the container in time, or is killed; then
   *   no container is left either.
   */
  async run(id: string, bundle: string, onOutput: OutputListener, signal: AbortSignal): Promise<RuntimeExit> {
    const logPath = join(bundle, "runc-log.json");
    const pidPath = pidFileIn(bundle);
    const args = [...this.#global(logPath), "run", "--bundle", bundle, "--pid-file", pidPath, id];
    // A process group of its own: an interrupt typed at the worker's terminal is for the worker.
    const child = spawn(this.#options.binary, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
    child.stdout.on("data", (chunk: Buffer) => onOutput(1, chunk));
    let lastWords = "";
    child.stderr.on("data", (chunk: Buffer) => {
      lastWords = (lastWords + chunk.toString()).slice(-maxLastWords);
      onOutput(2, chunk);
    });
    const ended = exitOf(child, this.#options.binary);
    let cleaned = Promise.resolve();
    child.once("exit", (_code, killedBy) => {
      if (killedBy !== null) {
        // It cannot clean up after itself, and the container, if there is one, holds our ends of its output open.
        cleaned = this.#forceAway(id, pidPath);
      }
    });
    const over = new AbortController();
    const kill = () => void this.#killUntilGone(id, child, over.signal);
    signal.addEventListener("abort", kill, { once: true });
    if (signal.aborted) {
      kill();
    }
    const { startTimeoutMs = defaultStartTimeoutMs } = this.#options;
    let isLate = false;
    const starting = setTimeout(() => {
      isLate = !existsSync(pidPath);
      if (isLate) {
        killGroup(child);
      }
    }, startTimeoutMs);
    try {
      const code = await ended;
      const hasStarted = (await pidIn(pidPath)) !== undefined;
      const complaint = (await complaintIn(logPath)) || (hasStarted ? "" : lastWords.trim());
      return { code, complaint: complaint || (hasStarted ? "" : "the runtime has not started it") };
    } catch (error) {
      await cleaned;
      throw isLate
        ? new UnavailableError(
            `Cannot run the step: ${this.#options.binary} has not started it in ${startTimeoutMs / 1000} s`,
          )
        : error;
    } finally {
      clearTimeout(starting);
      signal.removeEventListener("abort", kill);
      over.abort();
    }
  }

  /** The same runtime, with the state of its containers elsewhere. */
  withState(stateDirectory: string): Runc {
    return new Runc({ ...this.#options, stateDirectory });
  }

  /** Every container whose state is kept, whether it runs or not. */
  async list(): Promise<string[]> {
    const { stdout } = await run(this.#options.binary, [...this.#global(), "list", "--quiet"], {
      timeout: commandTimeoutMs,
    });
    return stdout.split("\n").filter(Boolean);
  }

  /** Kills the container and removes what is left of it. */
  async delete(id: string): Promise<void> {
    try {
      await run(this.#options.binary, [...this.#global(), "delete", "--force", id], {
        timeout: commandTimeoutMs,
      });
    } catch (error) {
      // A runtime that outlived the worker which had started it removes its container at the same time.
      if ((await this.list()).includes(id)) {
        throw error;
      }
    }
  }

  #global(logPath?: string): string[] {
    const log = logPath === undefined ? [] : ["--log", logPath, "--log-format", "json"];
    return ["--root", this.#options.stateDirectory, ...log];
  }

  /** Removes a container whose runtime has died; its first process is killed if the runtime will not do that either. */
  async #forceAway(id: string, pidPath: string): Promise<void> {
    try {
      await this.delete(id);
    } catch {
      const pid = await pidIn(pidPath);
      if (pid !== undefined) {
        killIfThere(pid);
      }
    }
  }

  /** Kills the container until it has ended, and a runtime that does not see to that. */
  async #killUntilGone(id: string, child: ChildProcess, gone: AbortSignal): Promise<void> {
    const patience = AbortSignal.timeout(killPatienceMs);
    while (!gone.aborted) {
      const isHanging = await this.#kill(id);
      if (isHanging || patience.aborted) {
        killGroup(child);
        return;
      }
      await delay(killPauseMs, undefined, { signal: gone }).catch(() => undefined);
    }
  }

  /**
   * Sends SIGKILL to the container. That there is none, or none any more, is no failure: what counts is whether the run
   * has ended.
   *
   * @returns whether the runtime did not even answer.
   */
  async #kill(id: string): Promise<boolean> {
    try {
      await run(this.#options.binary, [...this.#global(), "kill", id, "KILL"], { timeout: commandTimeoutMs });
      return false;
    } catch (error) {
      return error instanceof Error && "killed" in error && error.killed === true;
    }
  }
}

/** Where the runtime writes the number of a container's first process when it has started that. */
export function pidFileIn(bundle: string): string {
  return join(bundle, "pid");
}

/** Undefined if the file is not there, or not whole. */
export async function pidIn(path: string): Promise<number | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  return /^[1-9]\d*$/.test(text.trim()) ? Number(text) : undefined;
}

/** The runtime and what it has started in its process group, such as a shell around it. */
function killGroup({ pid }: ChildProcess): void {
  if (pid !== undefined) {
    killIfThere(-pid);
  }
}

/** @param target a process, or the negated number of a group of them. */
function killIfThere(target: number): void {
  try {
    process.kill(target, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) {
      throw error;
    }
  }
}

async function exitOf(child: ChildProcess, binary: string): Promise<number> {
  try {
    const [code, signal] = (await once(child, "close")) as [number | null, string | null];
    if (code === null) {
      throw new UnavailableError(`Cannot tell how the step ended: ${binary} was ended by ${signal}`);
    }
    return code;
  } catch (cause) {
    if (cause instanceof UnavailableError) {
      throw cause;
    }
    throw new UnavailableError(`Cannot start ${binary}: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

/** The last error in runc's log. It writes one only for a failure of its own, never for one of the step. */
async function complaintIn(logPath: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(logPath, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return "";
    }
    throw error;
  }
  return text.split("\n").reduce((last, line) => errorText(line) ?? last, "");
}

function errorText(line: string): string | undefined {
  try {
    const entry: unknown = JSON.parse(line);
    if (
      typeof entry === "object" &&
      entry !== null &&
      "level" in entry &&
      "msg" in entry &&
      entry.level === "error"
    ) {
      return String(entry.msg);
    }
  } catch {
    // A line that the runtime was killed while writing.
  }
  return undefined;
}
