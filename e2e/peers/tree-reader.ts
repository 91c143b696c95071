import { spawn } from "node:child_process";
import { type EventEmitter, once } from "node:events";
import { createInterface } from "node:readline";
import { killAfter } from "./tree.ts";

/** Reads what it is told to on standard input. */
const program = `while IFS= read -r name; do ${killAfter.join(" ")} md5sum "$name"; done`;

/** A process that reads files one after the other. Disposing ends it. */
export interface TreeReader extends AsyncDisposable {
  /** Lines of md5sum(1), one for each file that has been read. */
  readonly sums: readonly string[];
  /** What it has said of those that it could not read. */
  readonly errors: readonly string[];
  /** Has it read these too. */
  read(files: readonly string[]): void;
  /** Resolves when it has read all, or has said why not. */
  end(): Promise<void>;
}

/** Starts a process that reads files of the directory `path`, and tells `progress` of each by an event `read`. */
export function startReader(path: string, progress: EventEmitter): TreeReader {
  const child = spawn("sh", ["-c", program], { cwd: path, stdio: ["pipe", "pipe", "pipe"] });
  const ended = once(child, "close");
  const sums: string[] = [];
  const errors: string[] = [];
  const keep = (lines: string[]) => (line: string) => {
    lines.push(line);
    progress.emit("read");
  };
  createInterface(child.stdout).on("line", keep(sums));
  createInterface(child.stderr).on("line", keep(errors));
  // It may have been ended.
  child.stdin.on("error", () => undefined);
  return {
    sums,
    errors,
    read: (files) => void child.stdin.write(files.map((file) => `${file}\n`).join("")),
    end: async () => {
      child.stdin.end();
      await ended;
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      child.stdin.destroy();
      await ended;
    },
  };
}
