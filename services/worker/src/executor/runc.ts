import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { access, constants, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { FailedPreconditionError, NotFoundError, UnavailableError } from "@oci-worker/errdefs";

const run = promisify(execFile);

/** One call of runc that only signals or deletes; one that hangs is given up. */
const commandTimeoutMs = 7000;

/** What a step writes to its standard output (1) or standard error (2). */
export type OutputListener = (stream: 1 | 2, chunk: Buffer) => void;

/** How a container has ended. */
export interface ContainerExit {
  readonly code: number;
  /** What the runtime itself complained of, such as a command that is not there; empty if nothing. */
  readonly complaint: string;
}

export interface RuncOptions {
  /** The runtime: a name to be found on PATH, or a path. Empty: the first of buildkit-runc and runc. */
  readonly binary: string;
  /** Where runc keeps the state of its containers. Ours alone, so that all of them are ours to clean up. */
  readonly stateDirectory: string;
}

/** The names under which buildkitd looks for a runtime. */
const defaultBinaries = ["buildkit-runc", "runc"];

/**
 * Finds the runtime that `binary` names.
 *
 * @throws {NotFoundError} naming what was looked for and where.
 */
export async function findRuntime(binary: string): Promise<string> {
  const names = binary === "" ? defaultBinaries : [binary];
  const directories = (process.env["PATH"] ?? "").split(delimiter);
  for (const name of names) {
    const candidates = name.includes("/") ? [name] : directories.map((directory) => join(directory, name));
    for (const candidate of candidates) {
      if (await isExecutable(candidate)) {
        return candidate;
      }
    }
  }
  throw new NotFoundError(
    `Cannot find a container runtime: no ${names.join(" or ")} on PATH, want runc installed`,
  );
}

/**
 * Checks that a worker is wanted and can be.
 *
 * @throws {FailedPreconditionError} if it is turned off.
 * @throws {NotFoundError} if there is no runtime.
 */
export async function requireRuntime(enabled: boolean | "auto", binary: string): Promise<string> {
  if (enabled === false) {
    throw new FailedPreconditionError("no worker found: the OCI worker is turned off, and there is no other");
  }
  return await findRuntime(binary);
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
   */
  async run(
    id: string,
    bundle: string,
    onOutput: OutputListener,
    signal: AbortSignal,
  ): Promise<ContainerExit> {
    const logPath = join(bundle, "runc-log.json");
    const args = [...this.#global(logPath), "run", "--bundle", bundle, id];
    // A process group of its own: an interrupt typed at the worker's terminal is for the worker.
    const child = spawn(this.#options.binary, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
    child.stdout.on("data", (chunk: Buffer) => onOutput(1, chunk));
    child.stderr.on("data", (chunk: Buffer) => onOutput(2, chunk));
    const ended = exitOf(child, this.#options.binary);
    const killing = new AbortController();
    const kill = () => void this.#killUntilGone(id, child, killing.signal);
    signal.addEventListener("abort", kill, { once: true });
    if (signal.aborted) {
      kill();
    }
    try {
      const code = await ended;
      return { code, complaint: await complaintIn(logPath) };
    } finally {
      signal.removeEventListener("abort", kill);
      killing.abort();
    }
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
    await run(this.#options.binary, [...this.#global(), "delete", "--force", id], {
      timeout: commandTimeoutMs,
    });
  }

  #global(logPath?: string): string[] {
    const log = logPath === undefined ? [] : ["--log", logPath, "--log-format", "json"];
    return ["--root", this.#options.stateDirectory, ...log];
  }

  /**
   * Sends SIGKILL again and again until the container has ended: the first ones come too early while runc still sets it
   * up. A runtime that does not even answer is killed itself.
   */
  async #killUntilGone(id: string, child: ChildProcess, gone: AbortSignal): Promise<void> {
    const pauseMs = 50;
    while (!gone.aborted) {
      try {
        await run(this.#options.binary, [...this.#global(), "kill", id, "KILL"], {
          timeout: commandTimeoutMs,
        });
      } catch (error) {
        if (error instanceof Error && "killed" in error && error.killed === true) {
          child.kill("SIGKILL");
          return;
        }
        // No such container, or none any more: what counts is whether the run has ended.
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
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

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
