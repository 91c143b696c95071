import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@oci-worker/api/grpc/health";
import { parentVariable } from "@oci-worker/daemon/run";
import { UnavailableError } from "@oci-worker/errdefs";
import type { Channel } from "@oci-worker/grpc/channel";
import type { Logger } from "pino";
import { ChildLock } from "./child-lock.ts";

export interface ChildOptions {
  /** For people: "snapshotter", "resolver". */
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  /** Beside ours. */
  readonly environment?: NodeJS.ProcessEnv;
  /** File that is locked for as long as a child runs, whoever has started it. */
  readonly lockPath: string;
  /** To the socket that the child serves, for asking whether it does. */
  readonly channel: Channel;
  readonly log: Logger;
}

/** The first wait before a child that has ended is started again, and the longest one. */
const firstBackoffMs = 100;
const maxBackoffMs = 3000;

/** A child that has run so long has not failed at its start: the next wait is the first one again. */
const steadyAfterMs = 10_000;

/** A child must serve so soon after its first start. */
const startTimeoutMs = 30_000;

/** A child that is asked to stop drains its calls; one that takes longer is killed. */
const stopTimeoutMs = 15_000;

/** The child of a worker that was killed is waited for twice as long: nobody kills it, and what it ends is not ours to know. */
const earlierChildPatienceMs = 2 * stopTimeoutMs;

/**
 * Starts a service as a child process and keeps it running until it is disposed of.
 *
 * Its log lines go where ours go. It ends with us, also when we are killed; a little after us then, so that the child of a
 * worker that was killed is waited for first.
 *
 * @throws {UnavailableError} if it ends before it has served for the first time, or does not serve in time; or if the child
 *   of an earlier worker does not end.
 */
export async function superviseChild(options: ChildOptions): Promise<AsyncDisposable> {
  const { lockPath: path, name, log } = options;
  await using undo = new AsyncDisposableStack();
  const lock = undo.use(await ChildLock.take({ path, name, patienceMs: earlierChildPatienceMs, log }));
  const child = undo.use(new SupervisedChild(options, lock));
  await child.untilServing();
  return undo.move();
}

class SupervisedChild implements AsyncDisposable {
  readonly #options: ChildOptions;
  readonly #lock: ChildLock;
  readonly #stopping = new AbortController();
  readonly #firstExit = Promise.withResolvers<string>();
  readonly #ended: Promise<void>;
  #process: ChildProcess | undefined;

  constructor(options: ChildOptions, lock: ChildLock) {
    this.#options = options;
    this.#lock = lock;
    this.#ended = this.#keepRunning();
  }

  /** Resolves when the child answers that it serves. */
  async untilServing(): Promise<void> {
    const { channel, name } = this.#options;
    const health = createClient(Health, channel);
    const ended = this.#firstExit.promise.then((why) => {
      throw new UnavailableError(`Cannot start ${name}: it ${why} before it served`);
    });
    const serving = health.check({}, { timeoutMs: startTimeoutMs });
    const { status } = await Promise.race([serving, ended]);
    if (status !== ServingStatus.SERVING) {
      throw new UnavailableError(`Cannot start ${name}: it says that it does not serve`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    const child = this.#process;
    child?.kill("SIGTERM");
    const timer = setTimeout(() => child?.kill("SIGKILL"), stopTimeoutMs);
    await this.#ended;
    clearTimeout(timer);
  }

  async #keepRunning(): Promise<void> {
    const { name, log } = this.#options;
    const { signal } = this.#stopping;
    let backoffMs = firstBackoffMs;
    while (!signal.aborted) {
      const startedAtMs = performance.now();
      const why = await this.#runOnce();
      this.#firstExit.resolve(why);
      if (signal.aborted) {
        return;
      }
      backoffMs = performance.now() - startedAtMs > steadyAfterMs ? firstBackoffMs : backoffMs;
      log.warn({ child: name, why, restartInMs: backoffMs }, "child has ended, starting it again");
      await delay(backoffMs, undefined, { signal }).catch(() => undefined);
      backoffMs = Math.min(maxBackoffMs, backoffMs * 2);
    }
  }

  /** Runs the child to its end and says how that came. */
  async #runOnce(): Promise<string> {
    const { program, args, environment } = this.#options;
    const child = spawn(program, args, {
      stdio: ["ignore", "inherit", "inherit", this.#lock.fd],
      env: {
        ...process.env,
        ...environment,
        [parentVariable]: String(process.pid),
        NOTIFY_SOCKET: undefined,
      },
    });
    this.#process = child;
    // It is for people alone: a disk that is full keeps no child from running.
    const noted = this.#lock.noteHolder(child.pid ?? process.pid).catch(() => undefined);
    try {
      const [[code, signal]] = await Promise.all([
        once(child, "exit") as Promise<[number | null, string | null]>,
        noted,
      ]);
      return signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
    } catch (error) {
      return `could not be started: ${error instanceof Error ? error.message : error}`;
    }
  }
}
