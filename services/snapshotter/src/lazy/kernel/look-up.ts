import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { FailedPreconditionError } from "@oci-worker/errdefs";

/** Whoever serves has nothing to fetch for this. */
const patienceMs = 30_000;

/**
 * Opens or looks at each path that it is told of, by the letter before it, and says one line: nothing, or what is wrong. It
 * does so by itself, so that no process has to be made for a path.
 */
const program = `exec 2>&1
while IFS= read -r line; do
  path=\${line#?}
  case $line in
    o*) true <"$path" && echo ;;
    *) stat "$path" >/dev/null && echo ;;
  esac
done`;

/** One process for all, because to start one takes longer than to mount a layer. It ends when this one does. */
let opener: Opener | undefined;

/**
 * Has another process open the served file `path`, so that the kernel knows it and asks no more. The process that serves
 * must not do so first: one that waits for its own answer cannot be ended, not even killed, and answers nobody any more.
 *
 * @throws {FailedPreconditionError} if it is not there, or nobody answers.
 */
export async function openElsewhere(path: string): Promise<void> {
  await askElsewhere("o", path);
}

/**
 * The same for a directory, which is only looked at. By stat(1), which asks for the time of birth as Node does: afterwards the
 * kernel knows that there is none.
 */
export async function lookAtElsewhere(path: string): Promise<void> {
  await askElsewhere("l", path);
}

async function askElsewhere(what: "o" | "l", path: string): Promise<void> {
  if (path.includes("\n")) {
    throw new FailedPreconditionError(`Cannot open ${JSON.stringify(path)}: want a path that is one line`);
  }
  if (opener === undefined || opener.hasEnded) {
    opener = new Opener();
  }
  const error = await opener.ask(`${what}${path}`);
  if (error !== "") {
    throw new FailedPreconditionError(`Cannot open ${path}: ${error}`);
  }
}

class Opener {
  hasEnded = false;
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  /** Those who wait for a line, in the order of theirs. */
  readonly #waiting: ((error: string) => void)[] = [];

  constructor() {
    this.#process = spawn("sh", ["-c", program], { stdio: ["pipe", "pipe", "ignore"] });
    this.#process.on("error", (error) => this.#end(String(error)));
    this.#process.on("exit", () => this.#end("the process that should open it has ended"));
    this.#process.stdin.on("error", () => undefined);
    createInterface(this.#process.stdout).on("line", (line) => this.#waiting.shift()?.(line));
    // Nobody has to wait for it: who waits for an answer has a timer.
    this.#process.unref();
    for (const stream of [this.#process.stdin, this.#process.stdout]) {
      (stream as Writable & { unref?(): void }).unref?.();
    }
  }

  /** @returns what is wrong; nothing if it is all right. */
  async ask(line: string): Promise<string> {
    const answer = Promise.withResolvers<string>();
    this.#waiting.push(answer.resolve);
    this.#process.stdin.write(`${line}\n`);
    const timer = setTimeout(() => this.#end("nobody answers for it"), patienceMs);
    try {
      return await answer.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  #end(why: string): void {
    this.hasEnded = true;
    this.#process.kill("SIGKILL");
    for (const tell of this.#waiting.splice(0)) {
      tell(why);
    }
  }
}
