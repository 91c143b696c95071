import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type MessagePort, Worker } from "node:worker_threads";
import { resendUnanswered } from "@oci-worker/fuse/device";
import type { Logger } from "pino";
import type { ServedDevice } from "../kernel/layer-mounter.ts";
import { type DeathRule, Deaths, defaultDeathRule } from "./deaths.ts";
import type { LayerFailure } from "./layer-status.ts";
import type { DeviceThreadData } from "./messages.ts";

export interface DeviceServerOptions {
  readonly device: ServedDevice;
  /** Tells whoever fetches of another thread that serves the device. @returns the thread's way to them. */
  readonly connect: () => Promise<MessagePort>;
  readonly log: Logger;
  readonly threads: DeviceThreads;
}

/** How threads that serve devices are started, and started again. */
export interface DeviceThreads {
  readonly start: (data: DeviceThreadData) => Worker;
  readonly deathRule: DeathRule;
}

/** It makes nothing anew for a request. */
const deviceMemory = { maxYoungGenerationSizeMb: 2 };

export const deviceThreads: DeviceThreads = {
  start: (workerData) =>
    new Worker(new URL("./device-thread.ts", import.meta.url), {
      workerData,
      transferList: [workerData.fetcher],
      resourceLimits: deviceMemory,
    }),
  deathRule: defaultDeathRule,
};

/** How long is waited for the end of a process that was killed. */
const askingEndsMs = 5000;

/**
 * Serves a FUSE device by a thread, and by another one when that has died: what it was asked for and has not answered, the
 * next one is asked for again.
 *
 * Where one after the other dies, all that is asked for fails with EIO for a while, so that nobody waits for ever. That gets
 * rid of a request that kills whoever is asked for it, too. Then it is tried again.
 */
export class DeviceServer {
  /** Nobody serves the device any more: {@link end} was called, or {@link failure} says why not. Never rejects. */
  readonly ended: Promise<void>;
  readonly #options: DeviceServerOptions;
  readonly #deaths: Deaths;
  /** For all its threads: 1 once they shall end. */
  readonly #stopped = new Int32Array(new SharedArrayBuffer(4));
  readonly #ending = new AbortController();
  #failure: LayerFailure | undefined;

  constructor(options: DeviceServerOptions) {
    this.#options = options;
    this.#deaths = new Deaths(options.threads.deathRule);
    this.ended = this.#serve();
  }

  /** Why nothing can be read now. */
  get failure(): LayerFailure | undefined {
    return this.#failure;
  }

  /** Ends the thread, and leaves what it has not answered to whoever serves next. */
  async end(): Promise<void> {
    Atomics.store(this.#stopped, 0, 1);
    this.#ending.abort();
    // It waits for the kernel: only a request wakes it. Somebody else has to ask, one who may wait for the answer.
    const name = join(this.#options.device.target, `wake-${randomUUID()}`);
    const gone = Promise.withResolvers<void>();
    const asking = execFile("stat", [name], () => gone.resolve());
    await this.ended;
    // Nobody answers it any more, and while it waits the mount is in use. One that is never answered cannot be ended.
    asking.kill("SIGKILL");
    await Promise.race([gone.promise, sleep(askingEndsMs, undefined, { ref: false })]);
  }

  async #serve(): Promise<void> {
    const { device } = this.#options;
    const { target } = device;
    try {
      let isFollowing = device.isAdopted;
      let refuseUntilMs: number | undefined;
      while (!this.#ending.signal.aborted) {
        const cause = await this.#runThread(isFollowing, refuseUntilMs);
        if (cause === undefined && refuseUntilMs === undefined) {
          this.#lost(`their file system ${target} was unmounted, or cut off, from outside`);
          return;
        }
        if (cause !== undefined && refuseUntilMs !== undefined) {
          // Not even that can be done: nobody is answered, but nothing is gained by trying all the time either.
          await this.#pauseUntil(refuseUntilMs);
        }
        isFollowing = true;
        refuseUntilMs = cause === undefined ? undefined : this.#died(cause);
      }
    } catch (error) {
      this.#lost(messageOf(error));
    }
  }

  #lost(reason: string): void {
    const { device, log } = this.#options;
    if (!this.#ending.signal.aborted) {
      log.error({ reason, target: device.target }, "lazy layers cannot be served any more");
      this.#fail(`Cannot serve lazy layers until a restart: ${reason}`);
    }
  }

  #fail(message: string): void {
    this.#failure = { atMs: Date.now(), message };
  }

  /** @returns until when nothing is to be given. */
  #died(error: unknown): number | undefined {
    const { device, log } = this.#options;
    const { target } = device;
    const nowMs = Date.now();
    const refuseUntilMs = this.#deaths.note(nowMs);
    if (refuseUntilMs === undefined) {
      log.error({ error, target }, "the thread that serves lazy layers has died: another one follows it");
      return undefined;
    }
    const forMs = refuseUntilMs - nowMs;
    log.error({ error, target, forMs }, "threads that serve lazy layers die again and again: reads fail");
    this.#fail(`Cannot serve lazy layers: each thread that does dies: ${messageOf(error)}`);
    return refuseUntilMs;
  }

  /** Has one thread serve. @returns what it has died of; undefined if it has ended as it should. */
  async #runThread(isFollowing: boolean, refuseUntilMs: number | undefined): Promise<unknown> {
    const { device, connect, threads, log } = this.#options;
    // Before it answers the kernel: it would say that there are no layers.
    const fetcher = await connect();
    if (this.#ending.signal.aborted) {
      fetcher.close();
      return undefined;
    }
    if (refuseUntilMs === undefined) {
      this.#failure = undefined;
    }
    const thread = threads.start({ device, fetcher, stopped: this.#stopped, refuseUntilMs });
    const ended = Promise.withResolvers<unknown>();
    let cause: unknown;
    thread.once("error", (error) => {
      cause = error;
    });
    thread.once("exit", (code) =>
      ended.resolve(code === 0 ? undefined : (cause ?? `it has exited with ${code}`)),
    );
    if (isFollowing && !resendUnanswered(device.fd)) {
      log.warn("this kernel repeats no requests: reads that were taken and not answered wait for ever");
    }
    return await ended.promise;
  }

  async #pauseUntil(timeMs: number): Promise<void> {
    const options = { signal: this.#ending.signal, ref: false };
    await sleep(Math.max(0, timeMs - Date.now()), undefined, options).catch(() => undefined);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
