import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, readdir, readFile } from "node:fs/promises";
import { setTimeout as delay, setImmediate } from "node:timers/promises";
import { parentVariable } from "@oci-worker/daemon/run";
import { LogLines } from "./log-lines.ts";

export interface ProcessOptions {
  readonly program: string;
  readonly args: readonly string[];
  /** Beside that of this process. */
  readonly environment?: NodeJS.ProcessEnv;
  /** A line that says that it is ready. */
  readonly ready: RegExp;
}

/** A program of ours that runs. Disposing ends it, by SIGTERM. */
export interface ProcessPeer extends AsyncDisposable {
  readonly pid: number;
  /** What it has written so far, on standard output and standard error. */
  readonly log: readonly string[];
  readonly hasEnded: boolean;
  /** Resolves with the first line from the line `from` on that matches. @throws if it ends before it has written one. */
  said(pattern: RegExp, from?: number): Promise<string>;
  /** Ends it as a crash would, and waits for all that it has started and that still writes to its log. */
  kill(): Promise<void>;
  /** Ends it as a crash would, and waits for nothing else. */
  crash(): Promise<void>;
  /** Asks it to end, and gives its exit code. */
  stop(): Promise<number | null>;
}

/**
 * Starts a program and waits until it says that it is ready. It ends with this process, however that ends.
 *
 * @throws with all that it has said, if it ends before.
 */
export async function startProcess(options: ProcessOptions): Promise<ProcessPeer> {
  const { program, ready } = options;
  const child = spawnProgram(options);
  const output = new LogLines();
  const log = output.lines;
  const serving = Promise.withResolvers<void>();
  const ended = once(child, "close");
  const exited = once(child, "exit");
  child.on("error", serving.reject);
  child.on("close", (code) => {
    serving.reject(new Error(`${program} ended with code ${code} before it was ready:\n${log.join("\n")}`));
  });
  for (const stream of [child.stdout, child.stderr]) {
    output.read(stream, (line) => {
      if (ready.test(line)) {
        serving.resolve();
      }
    });
  }
  const end = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    await ended;
    return child.exitCode;
  };
  await serving.promise;
  return {
    pid: child.pid ?? 0,
    log,
    get hasEnded() {
      return child.exitCode !== null || child.signalCode !== null;
    },
    said: (pattern, from = 0) => output.said(pattern, from, ended),
    kill: async () => void (await end("SIGKILL")),
    crash: async () => {
      child.kill("SIGKILL");
      await exited;
    },
    stop: () => end("SIGTERM"),
    [Symbol.asyncDispose]: async () => void (await end("SIGTERM")),
  };
}

/**
 * Starts a program and ends it as a crash would after `afterMs` milliseconds, however far it is by then. What it has started
 * may still run.
 *
 * @param strike called just before that.
 */
export async function crashWhileStarting(
  options: ProcessOptions,
  afterMs: number,
  strike?: () => void,
): Promise<void> {
  const child = spawnProgram(options);
  child.stdout.resume();
  child.stderr.resume();
  const exited = once(child, "exit");
  await delay(afterMs);
  strike?.();
  child.kill("SIGKILL");
  await exited;
}

/** Children of all threads of a process (proc(5)); those of others are not looked at. */
export async function childrenOf(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, "utf8").catch(() => "")),
  );
  return lists.flatMap((list) => list.split(" ").filter(Boolean).map(Number));
}

/** Waits until `pid` is no process any more. */
export async function untilGone(pid: number): Promise<void> {
  for (;;) {
    try {
      await access(`/proc/${pid}`);
    } catch {
      return;
    }
    await setImmediate();
  }
}

/** Kills `pid`, which may end by itself at the same moment. */
export function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") {
      throw error;
    }
  }
}

function spawnProgram({ program, args, environment }: ProcessOptions) {
  return spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, [parentVariable]: String(process.pid), ...environment },
  });
}
