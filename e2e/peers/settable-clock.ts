import { existsSync } from "node:fs";
import { mkdtempDisposable, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A clock that a test sets, for programs that are started with its environment. Their timers go by the real one. */
export interface SettableClock extends AsyncDisposable {
  readonly environment: NodeJS.ProcessEnv;
  /** How far it is from the real one, as faketime(1) has it, such as `-30d` or `+60`. */
  set(offset: string): Promise<void>;
}

/** @throws if Debian's package libfaketime is not installed. */
export async function settableClock(): Promise<SettableClock> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "clock-")));
  const file = join(directory.path, "time");
  const set = async (offset: string) => {
    await writeFile(`${file}.new`, `${offset}\n`);
    await rename(`${file}.new`, file);
  };
  await set("+0");
  const environment = {
    LD_PRELOAD: await fakeTimeLibrary(),
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: "1",
    DONT_FAKE_MONOTONIC: "1",
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
  };
  const owned = undo.move();
  return { environment, set, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The library that lies to programs about the time. */
async function fakeTimeLibrary(): Promise<string> {
  const libraries = (await readFile("/etc/debian_version").then(() => readdir("/usr/lib")))
    .map((name) => join("/usr/lib", name, "faketime/libfaketime.so.1"))
    .filter((path) => existsSync(path));
  const [path] = libraries;
  if (path === undefined) {
    throw new Error("missing peer: there is no library libfaketime, install the Debian package libfaketime");
  }
  return path;
}
