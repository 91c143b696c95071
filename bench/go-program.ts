import { execFile } from "node:child_process";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A program of `bench/peers` that was built. Disposing removes it. */
export interface GoProgram extends AsyncDisposable {
  /** Runs it. @returns what it prints. */
  run(...args: string[]): Promise<string>;
  readonly path: string;
}

/** Where Debian's packages put the sources of Go libraries. */
const debianSources = "/usr/share/gocode";

/**
 * Builds the program `name` of `bench/peers` against the libraries that Debian packages.
 *
 * @throws if Go or a library is missing, with what the compiler says.
 */
export async function buildGoProgram(name: string): Promise<GoProgram> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "bench-go-")));
  const path = join(directory.path, name);
  const env = { ...process.env, GO111MODULE: "off", GOPATH: debianSources, GOFLAGS: "" };
  await run("go", ["build", "-o", path, "."], { cwd: join(import.meta.dirname, "peers", name), env });
  const owned = undo.move();
  return {
    path,
    run: async (...args) => (await run(path, args, { maxBuffer: 64 * 1024 * 1024 })).stdout,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
