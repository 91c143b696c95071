import { unlink, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import { requireIDs, type StepIDs } from "../remap/step-ids.ts";
import { refuseWorkingDirectoryInProc } from "./kernel-places.ts";
import type { MemoryDirectory } from "./memory-directory.ts";
import type { RuntimeSpec } from "./oci-spec.ts";
import { processUser } from "./process-user.ts";
import { Rootfs } from "./rootfs.ts";
import type { Runc } from "./runc.ts";
import type { RuntimeExit } from "./runtime-process.ts";
import type { ProcessStreams } from "./stdio/streams.ts";
import type { Command } from "./step.ts";

interface ContainerPlace {
  readonly id: string;
  readonly runc: Runc;
  readonly bundle: string;
  readonly rootfsPath: string;
  readonly spec: RuntimeSpec;
  readonly memory: MemoryDirectory;
  readonly ids: StepIDs;
}

/** A container whose first process runs, and what else runs in it. */
export class RunningContainer {
  readonly place: ContainerPlace;
  readonly #running = new Set<Promise<unknown>>();
  #hasEnded = false;
  #count = 0;

  constructor(place: ContainerPlace) {
    this.place = place;
  }

  /** Its first process has ended, and all others with it. Resolves when nothing of them is left. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    await Promise.allSettled(this.#running);
  }

  /**
   * Runs one more process in it.
   *
   * @throws {FailedPreconditionError} if the first one has ended.
   * @throws {InvalidArgumentError} {NotFoundError} if the process cannot be in its image, as its user.
   */
  async exec(command: Command, streams: ProcessStreams, signal: AbortSignal): Promise<RuntimeExit> {
    signal.throwIfAborted();
    if (this.#hasEnded) {
      throw stopped(this.place.id);
    }
    const running = this.#exec(command, streams, signal);
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #exec(command: Command, streams: ProcessStreams, signal: AbortSignal): Promise<RuntimeExit> {
    const { id, ids, runc, bundle, memory } = this.place;
    this.#count += 1;
    const name = `exec-${this.#count}`;
    await using undo = new AsyncDisposableStack();
    const file = (directory: string, suffix: string) => {
      const path = join(directory, `${name}${suffix}`);
      undo.defer(() => unlink(path).catch(ignoreAbsent));
      return path;
    };
    // With secrets in its environment it is written to no disk.
    const specPath = file(command.secretEnv.length > 0 ? await memory.path() : bundle, ".json");
    const files = { specPath, pidPath: file(bundle, ".pid"), logPath: file(bundle, ".log") };
    const spec = this.#process(command, streams.terminal === true);
    await writeFile(specPath, JSON.stringify(spec), { mode: 0o600 });
    return await runc.exec(id, files, { ...streams, owner: ids.owners?.root }, signal);
  }

  /** What it does not say itself it has as the first process. */
  #process({ args, env, secretEnv, cwd, user }: Command, terminal: boolean): RuntimeSpec["process"] {
    const { ids, rootfsPath, spec } = this.place;
    const { terminal: _, ...first } = spec.process;
    using rootfs = new Rootfs(rootfsPath);
    const directory = cwd === "" ? first.cwd : posix.resolve("/", cwd);
    refuseWorkingDirectoryInProc(rootfsPath, directory);
    const asked = user === "" ? first.user : processUser(user, rootfs);
    requireIDs(ids, asked);
    return {
      ...first,
      ...(terminal && { terminal }),
      args,
      env: [...env, ...secretEnv],
      cwd: directory,
      user: asked,
    };
  }
}

/** In upstream's words. */
export function stopped(id: string): FailedPreconditionError {
  return new FailedPreconditionError(`container ${id} has stopped`);
}

function ignoreAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") {
    throw error;
  }
}
