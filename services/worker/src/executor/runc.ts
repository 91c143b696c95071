import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { UnavailableError } from "@oci-worker/errdefs";
import { pidFileIn, pidIn } from "./pid-file.ts";
import { ifThere, type RuntimeExit, runToEnd } from "./runtime-process.ts";
import type { ProcessStreams } from "./stdio/streams.ts";

const run = promisify(execFile);

/** One call of runc that only lists, signals or deletes; one that hangs is given up. */
const defaultCommandTimeoutMs = 7000;

/** Of what a runtime says when it fails, so much is told. */
const maxQuoted = 1000;

/** A runtime that has not started its container by then never will; a machine under load takes seconds. */
const defaultStartTimeoutMs = 60_000;

export interface RuncOptions {
  /** The runtime: a name to be found on PATH, or a path. Empty: the first of buildkit-runc and runc. */
  readonly binary: string;
  /** Where runc keeps the state of its containers. Ours alone, so that all of them are ours to clean up. */
  readonly stateDirectory: string;
  /** How long the runtime may take until the step's process runs. */
  readonly startTimeoutMs?: number;
  /** How long it may take for what does not last as long as a process. */
  readonly commandTimeoutMs?: number;
  /** Whether systemd is asked for the cgroups of containers, which are in one of its slices then. */
  readonly systemdCgroups?: boolean;
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

  /** The same runtime, with cgroups of systemd's. */
  withSystemdCgroups(): Runc {
    return new Runc({ ...this.#options, systemdCgroups: true });
  }

  /**
   * Every container whose state is kept, whether it runs or not.
   *
   * @throws {UnavailableError} if the runtime does not tell.
   */
  async list(): Promise<string[]> {
    const listing = await this.#ask("list the containers of an earlier run", ["list", "--quiet"]);
    return listing.split("\n").filter(Boolean);
  }

  /**
   * Kills the container and removes what is left of it.
   *
   * @throws {UnavailableError} if the runtime does not do that.
   */
  async delete(id: string): Promise<void> {
    try {
      await this.#ask(`remove container ${id}`, ["delete", "--force", id]);
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
    const { stateDirectory, systemdCgroups = false } = this.#options;
    const log = logPath === undefined ? [] : ["--log", logPath, "--log-format", "json"];
    return ["--root", stateDirectory, ...log, ...(systemdCgroups ? ["--systemd-cgroup"] : [])];
  }

  /**
   * Has the runtime do something that takes no time, and gives what it says.
   *
   * @param what it is, for the error.
   * @throws {UnavailableError} if it does not answer, or in its own words if it fails.
   */
  async #ask(what: string, args: readonly string[]): Promise<string> {
    const { binary, commandTimeoutMs = defaultCommandTimeoutMs } = this.#options;
    try {
      const { stdout } = await run(binary, [...this.#global(), ...args], {
        timeout: commandTimeoutMs,
        killSignal: "SIGKILL",
      });
      return stdout;
    } catch (cause) {
      const why = hasHung(cause)
        ? `has not answered in ${commandTimeoutMs / 1000} s`
        : `has failed: ${wordsOf(cause)}`;
      throw new UnavailableError(`Cannot ${what}: ${binary} ${why}`, { cause });
    }
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
      await this.#ask(`kill container ${id}`, ["kill", id, "KILL"]);
      return false;
    } catch (error) {
      return error instanceof UnavailableError && hasHung(error.cause);
    }
  }
}

/** Whether `error` is that of a program that was killed because it had taken too long. */
function hasHung(error: unknown): boolean {
  return error instanceof Error && "killed" in error && error.killed === true;
}

/** What a program that has failed said, on one line; what the system has to say if it was nothing. */
function wordsOf(error: unknown): string {
  const said = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : "";
  const words = said === "" && error instanceof Error ? error.message.trim() : said;
  return words.slice(-maxQuoted).replaceAll(/\s*\n\s*/g, "; ");
}

/** Sends SIGKILL to the process of a pid file, if it has been started. */
async function killProcess(pidPath: string): Promise<void> {
  const pid = await pidIn(pidPath);
  if (pid !== undefined) {
    ifThere(pid, (target) => process.kill(target, "SIGKILL"));
  }
}
