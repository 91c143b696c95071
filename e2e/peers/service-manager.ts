import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { LogLines } from "./log-lines.ts";

const script = join(import.meta.dirname, "service-manager.pl");

export interface ServiceOptions {
  /** Paths of the sockets that are made for the program, by FileDescriptorName=. */
  readonly sockets: Readonly<Record<string, string>>;
  /** NOTIFY_SOCKET; a leading "@" means the abstract name space. */
  readonly notifySocket: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Beside that of this process. */
  readonly environment?: NodeJS.ProcessEnv;
}

/** A program with sockets that outlive it, as systemd runs it. Disposing ends it, by SIGTERM. */
export interface ServicePeer extends AsyncDisposable {
  /** What the service manager has reported, and what the program has written, so far. */
  readonly log: readonly string[];
  /** Of the program that runs now. */
  readonly pid: number;
  /** Resolves with the first line after the first `after` ones that matches. */
  line(pattern: RegExp, after?: number): Promise<string>;
  /** Ends the program as a crash would, and resolves when it is gone; it is started again. */
  kill(): Promise<void>;
  /** Asks program and service manager to end, and resolves when both have. */
  stop(): Promise<void>;
}

/** Starts a program with listening sockets that it has not made. Does not wait for it to serve. */
export function startService(options: ServiceOptions): ServicePeer {
  const { sockets, notifySocket, program, args, environment } = options;
  const named = Object.entries(sockets).map(([name, path]) => `${name}=${path}`);
  const child: ChildProcessByStdio<null, Readable, Readable> = spawn(
    "/usr/bin/setpriv",
    ["--pdeathsig", "KILL", "perl", script, notifySocket, named.join(","), program, ...args],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...environment } },
  );
  const ended = once(child, "close");
  const output = new LogLines();
  const log = output.lines;
  output.read(child.stdout);
  output.read(child.stderr);
  const find = (pattern: RegExp, after = 0) => output.said(pattern, after, ended);
  const pid = () => Number(log.findLast((line) => line.startsWith("started "))?.split(" ")[1]);
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return {
    log,
    get pid() {
      return pid();
    },
    line: find,
    kill: async () => {
      const victim = pid();
      process.kill(victim, "SIGKILL");
      await find(new RegExp(`^ended ${victim}$`));
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
