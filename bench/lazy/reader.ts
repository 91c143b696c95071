import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { buildGoProgram, type GoProgram } from "../go-program.ts";

const run = promisify(execFile);

/** A server that has died makes its readers wait; nothing here takes a fraction of it. */
const patience = { timeout: 600_000, killSignal: "SIGKILL" } as const;

/** How long something took that was done many times. */
export interface Timing {
  readonly operations: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly meanMicroseconds: number;
  readonly medianMicroseconds: number;
  readonly p99Microseconds: number;
}

/** Uses trees of files as programs do, from processes of its own. */
export class TreeReader implements AsyncDisposable {
  readonly #program: GoProgram;
  readonly #directory: string;

  private constructor(program: GoProgram, directory: string) {
    this.#program = program;
    this.#directory = directory;
  }

  /** @param directory for lists of paths. */
  static async build(directory: string): Promise<TreeReader> {
    return new TreeReader(await buildGoProgram("tree-reader"), directory);
  }

  /** `find` that has to look at every inode. Gives milliseconds. */
  async find(root: string): Promise<number> {
    // Its program is not what is measured.
    await run("find", [this.#directory, "-size", "+1000000M"], patience);
    const startedAt = performance.now();
    await run("find", [root, "-size", "+1000000M"], patience);
    return performance.now() - startedAt;
  }

  async lstat(root: string, paths: readonly string[]): Promise<Timing> {
    return await this.#onEach("lstat", root, paths);
  }

  /** Opens each, reads it to the end and closes it. */
  async read(root: string, paths: readonly string[]): Promise<Timing> {
    return await this.#onEach("read", root, paths);
  }

  /** Reads `blocks` of 4 KiB of one file, in the same order each time. */
  async random(root: string, path: string, blocks: number): Promise<Timing> {
    return await this.#time("random", root, ["--path", path, "--count", String(blocks)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
  }

  async #onEach(operation: string, root: string, paths: readonly string[]): Promise<Timing> {
    const list = join(this.#directory, "paths");
    await writeFile(list, paths.map((path) => `${path}\n`).join(""));
    return await this.#time(operation, root, ["--list", list]);
  }

  async #time(operation: string, root: string, args: readonly string[]): Promise<Timing> {
    await run(this.#program.path, ["--list", "/dev/null"], patience);
    const flags = ["--operation", operation, "--root", root, ...args];
    const { stdout } = await run(this.#program.path, flags, patience);
    return JSON.parse(stdout) as Timing;
  }
}

/**
 * Has the kernel forget all that it has of files (proc(5), drop_caches), once what was written to the file system of
 * `directory` is on its disk: what is not is kept.
 */
export async function dropCaches(directory: string): Promise<void> {
  await run("sync", ["--file-system", directory]);
  await writeFile("/proc/sys/vm/drop_caches", "3");
}
