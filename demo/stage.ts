import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type ProcessPeer, startProcess } from "../e2e/peers/process.ts";

/** How a program has ended, and what it has written. */
export interface Performance {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const programs = join(import.meta.dirname, "../node_modules/.bin");

/** Runs our programs in front of an audience: every command line is shown, and everything that it prints. */
export class Stage {
  readonly #directory: string;
  readonly #address: string;
  #step = 0;

  /** @param directory where the worker keeps its state. */
  constructor(directory: string) {
    this.#directory = directory;
    this.#address = `unix://${join(directory, "worker.sock")}`;
  }

  /** Announces the next step. */
  say(text: string): void {
    this.#step += 1;
    process.stdout.write(`\n== ${this.#step}. ${text}\n`);
  }

  /** Adds a remark. */
  note(text: string): void {
    process.stdout.write(`${text}\n`);
  }

  /** @throws if `holds` is false: the demo has then not shown what it promised. */
  check(holds: boolean, otherwise: string): void {
    if (!holds) {
      throw new Error(`The demo has failed: ${otherwise}`);
    }
  }

  /** The last line. */
  end(text: string): void {
    process.stdout.write(`\n${text}\n`);
  }

  async startWorker(): Promise<ProcessPeer> {
    const args = ["--root", join(this.#directory, "root"), "--addr", this.#address];
    this.note(`$ oci-worker ${args.join(" ")} &`);
    const worker = await startProcess({
      program: join(programs, "oci-worker"),
      args,
      ready: /"name":"worker".*"msg":"serving"/,
    });
    for (const line of worker.log) {
      const { name, msg } = JSON.parse(line);
      this.note(`${name}: ${msg}`);
    }
    return worker;
  }

  /** `ociw run`. */
  ociw(args: readonly string[], password?: string): Promise<Performance> {
    return this.tool("ociw", ["run", ...args], password);
  }

  /** Runs one of our programs to its end. A password goes in by its standard input and is not shown. */
  async tool(name: string, args: readonly string[], password?: string): Promise<Performance> {
    const shown = args.map((arg) => (/^[\w./:@=-]+$/.test(arg) ? arg : JSON.stringify(arg)));
    this.note(`$ ${password === undefined ? "" : "pass | "}${name} ${shown.join(" ")}`);
    const child = spawn(join(programs, name), args, {
      env: { ...process.env, BUILDKIT_HOST: this.#address },
    });
    const output = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].on("data", (chunk: Buffer) => {
        output[stream] += chunk.toString();
        process[stream].write(chunk);
      });
    }
    child.stdin.end(password);
    const [code] = (await once(child, "close")) as [number | null];
    if (code !== 0) {
      this.note(`(exit code ${code})`);
    }
    return { code, ...output };
  }
}
