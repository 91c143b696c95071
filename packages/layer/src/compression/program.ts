import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { closeSync, constants } from "node:fs";
import { access, type FileHandle } from "node:fs/promises";
import { basename, join } from "node:path";
import { openPipe, setPipeSize } from "@oci-worker/libc/file";
import type { Compression } from "./detect.ts";

/**
 * Programs that take the work off node:zlib. igzip needs 0.6 of its time; zstd needs the same, but as a process it works
 * on while this one unpacks, where node:zlib waits for its caller after every piece.
 */
const programs: Partial<Record<Compression, string>> = { gzip: "igzip", zstd: "zstd" };

/** Below this a program is not worth its start. */
const worthwhileBytes = 4 * 1024 * 1024;

/** The most that a pipe may hold without a privilege (pipe(7)). With the usual 64 KiB igzip takes half as long again. */
const pipeBytes = 1024 * 1024;

/** An eStargz blob ends with a gzip member of its own (stargz-snapshotter, docs/estargz.md, "Footer"). */
const [estargzFooterBytes, estargzMark] = [51, "STARGZ"];

/** The ids of nobody: what reads data of strangers shall own nothing and may nothing. */
const nobody = { uid: 65_534, gid: 65_534 };

/**
 * The path of the program that decompresses `blob` faster; undefined if there is none or it is not worth it.
 *
 * It is not for eStargz blobs. igzip ignores what follows the last member of a gzip, and where there are many, nothing
 * but reading it once more with node:zlib tells whether something does.
 */
export async function programFor(
  compression: Compression,
  blob: FileHandle,
  sizeBytes: number,
): Promise<string | undefined> {
  const name = programs[compression];
  if (name === undefined || sizeBytes < worthwhileBytes) {
    return undefined;
  }
  const footer = Buffer.alloc(estargzFooterBytes);
  await blob.read(footer, 0, footer.length, sizeBytes - footer.length);
  return footer.includes(estargzMark) ? undefined : findInPath(name);
}

async function findInPath(name: string): Promise<string | undefined> {
  for (const directory of (process.env["PATH"] ?? "").split(":").filter((path) => path.startsWith("/"))) {
    const path = join(directory, name);
    const isExecutable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isExecutable) {
      return path;
    }
  }
  return undefined;
}

/** A program at work. To dispose of it is to end it, if it has not ended, and to wait for that. */
export interface RunningProgram extends AsyncDisposable {
  readonly name: string;
  /** The reading end of a pipe that blocks. */
  readonly outputFd: number;
}

/** How a program can end: by itself, well or not, or by a signal. */
export type ProgramEnd = "succeeded" | "failed" | "killed";

/**
 * Starts the program at `path` on what the open `blobFd` holds.
 *
 * @param onEnd told once how it has ended.
 * @param signal ends it.
 * @returns undefined if it cannot be started, such as where a process may not become nobody.
 */
export function startProgram(
  path: string,
  blobFd: number,
  isUserNamespace: boolean,
  onEnd: (end: ProgramEnd) => void,
  signal: AbortSignal,
): RunningProgram | undefined {
  const { readFd, writeFd } = openPipe();
  using undo = new DisposableStack();
  undo.defer(() => closeSync(readFd));
  using _writeEnd = { [Symbol.dispose]: () => closeSync(writeFd) };
  growPipe(readFd);
  const child = spawnOrNothing(path, ["-d", "-c"], {
    stdio: [blobFd, writeFd, "ignore"],
    cwd: "/",
    env: {},
    signal,
    killSignal: "SIGKILL",
    // In a user namespace there may be no nobody to change to.
    ...(isUserNamespace ? {} : nobody),
  });
  if (child === undefined) {
    return undefined;
  }
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  child.once("exit", (code) => {
    onEnd(code === null ? "killed" : code === 0 ? "succeeded" : "failed");
    resolve();
  });
  const readEnd = undo.move();
  return {
    name: basename(path),
    outputFd: readFd,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
      readEnd.dispose();
    },
  };
}

/** Some reasons not to start are thrown, such as EPERM; others, such as ENOENT, leave a child without a process. */
function spawnOrNothing(path: string, args: string[], options: SpawnOptions): ChildProcess | undefined {
  try {
    const child = spawn(path, args, options);
    // What is wrong with a child that has no process. One that has is told to end, and exits as well.
    child.on("error", () => undefined);
    return child.pid === undefined ? undefined : child;
  } catch (error) {
    if (error instanceof Error && "syscall" in error && error.syscall === "spawn") {
      return undefined;
    }
    throw error;
  }
}

function growPipe(fd: number): void {
  try {
    setPipeSize(fd, pipeBytes);
  } catch (error) {
    // Whoever has many pipes already gets no larger ones. It works without, only slower.
    if (!(error instanceof Error && "code" in error && error.code === "EPERM")) {
      throw error;
    }
  }
}
