import { execFile } from "node:child_process";
import {
  appendFile,
  chmod,
  chown,
  copyFile,
  mkdir,
  mkdtempDisposable,
  readdir,
  readFile,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { killIfThere } from "./process.ts";

const run = promisify(execFile);

/** A user of this machine, for this process and its children alone. Disposing takes their directories away. */
export interface UnprivilegedUser extends AsyncDisposable {
  readonly uid: number;
  /** The first of the other ids that the user has. */
  readonly firstSubordinate: number;
  readonly home: string;
  /** XDG_RUNTIME_DIR. */
  readonly runtimeDirectory: string;
  /** Where this repository is for them, wherever it is and whoever may read it there. */
  readonly repository: string;
  /** The words that run `command` as this user, with their environment and no other. */
  as(command: readonly string[]): readonly [program: string, ...args: string[]];
}

const name = "unprivileged";

/** Numbers for this process alone: another test that runs at the same time has a user of its own, and kills no other's processes. */
const own = process.pid % 16_384;
const uid = 1_000_000_000 + own;
/** What newuidmap(1) lets the user have, as 1 and so on. */
const subordinate = { first: 1_000_065_536 + own * 65_536, count: 65_536 };

/** Ends what the user still runs: a test that has failed halfway may have left something. */
async function killAll(): Promise<void> {
  for (const pid of (await readdir("/proc")).filter((each) => /^\d+$/.test(each))) {
    const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
    const id = Number(/^Uid:\t(\d+)/m.exec(status)?.[1]);
    if (id === uid || (id >= subordinate.first && id < subordinate.first + subordinate.count)) {
      killIfThere(Number(pid));
    }
  }
}

/**
 * Makes a user with subordinate ids. Call it from a mount name space that nobody else has (enter-own-namespaces.ts): the
 * databases in /etc are covered by others there, and the home directory is on a file system that is mounted nosuid and
 * nodev, as many are.
 */
export async function makeUser(): Promise<UnprivilegedUser> {
  await using undo = new AsyncDisposableStack();
  const { path } = undo.use(await mkdtempDisposable(join(tmpdir(), "user-")));
  await chmod(path, 0o755);
  const mount = async (...args: string[]) => {
    await run("mount", args);
    undo.defer(async () => void (await run("umount", ["--lazy", args.at(-1) ?? ""])));
  };
  await mount("-t", "tmpfs", "-o", "nosuid,nodev,mode=0755", "tmpfs", path);
  const [home, runtimeDirectory] = [join(path, "home"), join(path, "run")];
  for (const directory of [home, runtimeDirectory]) {
    await mkdir(directory, { mode: 0o700 });
    await chown(directory, uid, uid);
  }
  const repository = join(path, "repository");
  await mkdir(repository);
  await mount("--bind", join(import.meta.dirname, "../.."), repository);

  const databases = join(path, "etc");
  await mkdir(databases);
  const ids = `${name}:${subordinate.first}:${subordinate.count}\n`;
  const lines = {
    passwd: `${name}:x:${uid}:${uid}::${home}:/bin/sh\n`,
    group: `${name}:x:${uid}:\n`,
    subuid: ids,
    subgid: ids,
  };
  for (const [database, line] of Object.entries(lines)) {
    const [from, to] = [join("/etc", database), join(databases, database)];
    await copyFile(from, to).catch(() => writeFile(to, ""));
    await appendFile(to, line);
    // Part of Debian's passwd, which has them all.
    await mount("--bind", to, from);
  }
  undo.defer(killAll);
  const owned = undo.move();
  return {
    uid,
    firstSubordinate: subordinate.first,
    home,
    runtimeDirectory,
    repository,
    as: (command) => [
      "setpriv",
      ...[`--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--pdeathsig=KILL"],
      ...["env", "-i", "-C", home],
      ...[`HOME=${home}`, `USER=${name}`, `XDG_RUNTIME_DIR=${runtimeDirectory}`],
      `PATH=${repository}/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      ...command,
    ],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
