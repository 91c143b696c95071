import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync } from "node:fs";
import { constants } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { UnavailableError } from "@oci-worker/errdefs";
import { pidfdOpen, pidfdSendSignal } from "@oci-worker/libc/descriptor";
import { pidIn } from "./pid-file.ts";
import { complaintIn } from "./runtime-log.ts";
import { openPipes } from "./stdio/pipes.ts";
import type { ProcessStreams, StartedProcess, Stdio } from "./stdio/streams.ts";
import { openTerminal } from "./stdio/terminal.ts";

/** SIGKILL is sent again after so long: the first ones come too early while the runtime still sets the container up. */
const killPauseMs = 50;

/** A runtime that has not ended so long after its container was first killed is killed itself. */
const killPatienceMs = 10_000;

/** Whether the process runs already is looked at so often. */
const startPauseMs = 20;

/** Of what a runtime says that cannot write its log either; a disk that is full leaves it nothing else. */
const maxLastWords = 1000;

/** What the runtime itself knows of how a process has ended. */
export interface RuntimeExit {
  readonly code: number;
  /** What the runtime itself complained of, such as a command that is not there; empty if nothing. */
  readonly complaint: string;
}

/** A command of a runtime that lasts as long as the process in a container that it starts. */
export interface RuntimeCommand {
  readonly binary: string;
  readonly args: readonly string[];
  /** Where it writes the number of the process when that runs. */
  readonly pidPath: string;
  /** Where it writes what it complains of. */
  readonly logPath: string;
  /** How long it may take until the process runs. */
  readonly startTimeoutMs: number;
  /**
   * Kills the container. That there is none is no failure. Absent: the process alone is to be killed.
   *
   * @returns whether the runtime did not even answer.
   */
  readonly kill?: () => Promise<boolean>;
  /** Takes away what is left of the container when the runtime was killed and cannot do it; absent as `kill` is. */
  readonly forceAway?: () => Promise<void>;
}

/**
 * Runs `command` to the end of its process.
 *
 * @param signal kills the process; the promise still settles only when it has ended and its output has been passed on.
 * @throws {UnavailableError} if the runtime cannot be started, does not start the process in time, or is killed; then no
 *   process is left either.
 */
export async function runToEnd(
  command: RuntimeCommand,
  streams: ProcessStreams,
  signal: AbortSignal,
): Promise<RuntimeExit> {
  const { binary, args, pidPath, logPath, startTimeoutMs } = command;
  const started = Promise.withResolvers<void>();
  let lastWords = "";
  const stdio = (streams.terminal === true ? openTerminal : openPipes)({
    ...streams,
    onOutput: (stream, chunk) => {
      if (stream === 2 || streams.terminal === true) {
        lastWords = (lastWords + chunk.subarray(-maxLastWords).toString()).slice(-maxLastWords);
      }
      return streams.onStart === undefined
        ? streams.onOutput(stream, chunk)
        : started.promise.then(() => streams.onOutput(stream, chunk));
    },
  });
  const child = start(binary, args, stdio);
  child.once("exit", () => stdio.endInput());
  const ended = exitOf(child, binary, stdio);
  using handle = new ProcessHandle(child, pidPath, stdio);
  let cleaned = Promise.resolve();
  child.once("exit", (_code, killedBy) => {
    if (killedBy !== null) {
      // It cannot clean up after itself, and the process, if there is one, holds the other ends of its output open.
      cleaned = command.forceAway?.() ?? handle.killAlone();
    }
  });
  const over = new AbortController();
  const killOnce = command.kill ?? (() => handle.killAlone().then(() => false));
  const kill = () => void killUntilGone(killOnce, child, over.signal);
  signal.addEventListener("abort", kill, { once: true });
  if (signal.aborted) {
    kill();
  }
  let isLate = false;
  const starting = setTimeout(() => {
    isLate = !existsSync(pidPath);
    if (isLate) {
      killGroup(child);
    }
  }, startTimeoutMs);
  const watching = streams.onStart && tellOfStart(streams.onStart, child, handle).then(started.resolve);
  try {
    const code = await ended;
    const hasStarted = (await pidIn(pidPath)) !== undefined;
    const complaint = (await complaintIn(logPath)) || (hasStarted ? "" : lastWords.trim());
    return { code, complaint: complaint || (hasStarted ? "" : "the runtime has not started it") };
  } catch (error) {
    await cleaned;
    throw isLate
      ? new UnavailableError(
          `Cannot run the step: ${binary} has not started it in ${startTimeoutMs / 1000} s`,
        )
      : error;
  } finally {
    clearTimeout(starting);
    signal.removeEventListener("abort", kill);
    over.abort();
    await watching;
  }
}

function start(binary: string, args: readonly string[], stdio: Stdio): ChildProcess {
  try {
    // A process group of its own: an interrupt typed at the worker's terminal is for the worker.
    return spawn(binary, args, { stdio: [...stdio.theirs], detached: true });
  } finally {
    stdio.begin();
  }
}

/** The process, as long as it runs: known by a descriptor, for its number may be another's as soon as it has ended. */
class ProcessHandle implements StartedProcess, Disposable {
  readonly #child: ChildProcess;
  readonly #pidPath: string;
  readonly #stdio: Stdio;
  #pidfd: number | undefined;
  #isDisposed = false;

  constructor(child: ChildProcess, pidPath: string, stdio: Stdio) {
    this.#child = child;
    this.#pidPath = pidPath;
    this.#stdio = stdio;
  }

  /** Takes hold of the process. @returns false if it does not run yet. */
  async find(): Promise<boolean> {
    const pid = await pidIn(this.#pidPath);
    if (pid !== undefined && this.#pidfd === undefined && !this.#isDisposed) {
      ifThere(pid, () => {
        this.#pidfd = pidfdOpen(pid);
      });
    }
    return pid !== undefined;
  }

  /** Kills the process, if it runs yet, and nothing else of its container. */
  async killAlone(): Promise<void> {
    await this.find();
    this.kill(constants.signals.SIGKILL);
  }

  kill(signal: number): void {
    if (this.#pidfd !== undefined) {
      ifThere(this.#pidfd, (pidfd) => pidfdSendSignal(pidfd, signal));
    }
  }

  resize(size: Parameters<StartedProcess["resize"]>[0]): void {
    const { pid } = this.#child;
    if (pid !== undefined && !hasEnded(this.#child)) {
      this.#stdio.resize(size, pid);
    }
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    if (this.#pidfd !== undefined) {
      closeSync(this.#pidfd);
      this.#pidfd = undefined;
    }
  }
}

/** Tells when the process runs, or has run: also of one that has never come so far, for how it ended is told next. */
async function tellOfStart(
  onStart: NonNullable<ProcessStreams["onStart"]>,
  child: ChildProcess,
  handle: ProcessHandle,
): Promise<void> {
  const exited = new AbortController();
  child.once("exit", () => exited.abort());
  child.once("error", () => exited.abort());
  for (;;) {
    const isOver = hasEnded(child);
    if (isOver || (await handle.find())) {
      onStart(handle);
      return;
    }
    await delay(startPauseMs, undefined, { signal: exited.signal }).catch(() => undefined);
  }
}

function hasEnded({ exitCode, signalCode, pid }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null || pid === undefined;
}

/** Kills the process until it has ended, and a runtime that does not see to that. */
async function killUntilGone(
  kill: () => Promise<boolean>,
  child: ChildProcess,
  gone: AbortSignal,
): Promise<void> {
  const patience = AbortSignal.timeout(killPatienceMs);
  while (!gone.aborted) {
    const isHanging = await kill();
    if (isHanging || patience.aborted) {
      killGroup(child);
      return;
    }
    await delay(killPauseMs, undefined, { signal: gone }).catch(() => undefined);
  }
}

/** The runtime and what it has started in its process group, such as a shell around it. */
function killGroup({ pid }: ChildProcess): void {
  if (pid !== undefined) {
    ifThere(-pid, (group) => process.kill(group, "SIGKILL"));
  }
}

/** Sends a signal to what may have ended by itself at the same moment. */
export function ifThere(target: number, send: (target: number) => void): void {
  try {
    send(target);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) {
      throw error;
    }
  }
}

/** The exit code, when all output has been passed on as well. */
async function exitOf(child: ChildProcess, binary: string, stdio: Stdio): Promise<number> {
  try {
    const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
    await stdio.ended;
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
