import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { pidFileIn, pidIn } from "./pid-file.ts";
import { ifThere, type RuntimeExit, runToEnd } from "./runtime-process.ts";
import type { ProcessStreams } from "./stdio/streams.ts";

const run = promisify(execFile);

/** One call of runc that only signals or deletes; one that hangs is given up. */
const commandTimeoutMs = 7000;

/** A runtime that has not started its container by then never will; a machine under load takes seconds. */
const defaultStartTimeoutMs = 60_000;

export interface RuncOptions {
  /** The runtime: a name to be found on PATH, or a path. Empty: the first of buildkit-runc and runc. */
  readonly binary: string;
  /** Where runc keeps the state of its containers. Ours alone, so that all of them are ours to clean up. */
  readonly stateDirectory: string;
  /** How long the runtime may take until the step's process runs. */
  readonly startTimeoutMs?: number;
}

/** What a further process of a container needs on disk. */
export interface ExecFiles {
  /** What the process is: the `process` of a runtime spec. */
  readonly specPath: string;
  readonly pidPath: string;
  readonly logPath: string;
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
  run(id: string, bundle: string, streams: ProcessStreams, signal: AbortSignal): Promise<RuntimeExit> {
    const logPath = join(bundle, "runc-log.json");
    const pidPath = pidFileIn(bundle);
    const args = [...this.#global(logPath), "run", "--bundle", bundle, "--pid-file", pidPath, id];
    const command = {
      ...this.#command(args, pidPath, logPath),
      kill: () => this.#kill(id),
      forceAway: () => this.#forceAway(id, pidPath),
    };
    return runToEnd(command, streams, signal);
  }

  /**
   * Runs one more process in the container `id`, which runs, to the end of that process.
   *
   * @param files of its own, which the caller removes.
   * @param signal kills the process alone.
   * @throws {UnavailableError} as {@link run} does.
   */
  exec(id: string, files: ExecFiles, streams: ProcessStreams, signal: AbortSignal): Promise<RuntimeExit> {
    const { specPath, pidPath, logPath } = files;
    const args = [...this.#global(logPath), "exec", "--process", specPath, "--pid-file", pidPath, id];
    return runToEnd(this.#command(args, pidPath, logPath), streams, signal);
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

  #command(args: readonly string[], pidPath: string, logPath: string) {
    const { binary, startTimeoutMs = defaultStartTimeoutMs } = this.#options;
    return { binary, args, pidPath, logPath, startTimeoutMs };
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
      await killProcess(pidPath);
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

/** Sends SIGKILL to the process of a pid file, if it has been started. */
async function killProcess(pidPath: string): Promise<void> {
  const pid = await pidIn(pidPath);
  if (pid !== undefined) {
    ifThere(pid, (target) => process.kill(target, "SIGKILL"));
  }
}
