import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { lockHolder, noteLockHolder } from "@oci-worker/daemon/lock-root";
import { UnavailableError } from "@oci-worker/errdefs";
import { tryLockExclusively } from "@oci-worker/libc/file";
import type { Logger } from "pino";

/** A lock that another process holds is tried again this often. */
const retryMs = 20;

export interface ChildLockOptions {
  /** File of the lock, which is made if it is not there and stays. */
  readonly path: string;
  /** Of the child, for people: "snapshotter", "resolver". */
  readonly name: string;
  /** A child of an earlier worker is waited for so long. */
  readonly patienceMs: number;
  readonly log: Logger;
}

/**
 * What a child of ours holds for as long as it runs, and longer than we do: a lock (flock(2)) that it inherits with the
 * descriptor.
 *
 * The kernel tells a child that its worker has been killed, and the child ends what it is about before it goes. A worker that
 * is started at once would otherwise meet it on the root and the socket that the new child is to have.
 */
export class ChildLock implements AsyncDisposable {
  readonly #file: FileHandle;

  /**
   * Takes the lock, when the child of an earlier worker has gone.
   *
   * @throws {UnavailableError} if that does not go, naming its process.
   */
  static async take({ path, name, patienceMs, log }: ChildLockOptions): Promise<ChildLock> {
    await using undo = new AsyncDisposableStack();
    const file = undo.use(await open(path, "a+", 0o600));
    const giveUpAt = performance.now() + patienceMs;
    for (let isFirst = true; !tryLockExclusively(file.fd); isFirst = false) {
      const pid = await lockHolder(file);
      if (performance.now() >= giveUpAt) {
        throw new UnavailableError(
          `Cannot start ${name}: process ${pid}, which an earlier worker has started, still holds ${path} after ${patienceMs / 1000} s, want it ended`,
        );
      }
      if (isFirst) {
        log.info({ child: name, pid }, "waiting for the child of an earlier worker to end");
      }
      await delay(retryMs);
    }
    undo.move();
    return new ChildLock(file);
  }

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** To be passed on to the child; no other process that we start gets it. */
  get fd(): number {
    return this.#file.fd;
  }

  /** Notes for people which process has it now. */
  async noteHolder(pid: number): Promise<void> {
    await noteLockHolder(this.#file, pid);
  }

  /** Lets go of it. A child that has it keeps it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
