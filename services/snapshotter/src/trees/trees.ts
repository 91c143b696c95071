import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { UnavailableError } from "@oci-worker/errdefs";
import { explainHostFailure } from "../host-failure.ts";
import {
  canceledFlag,
  errorOf,
  failureOf,
  loadedFlag,
  type TreeJob,
  type TreeJobs,
  type TreeReply,
} from "./jobs.ts";

interface Waiting {
  readonly job: TreeJob;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (result: never) => void;
  readonly reject: (error: unknown) => void;
}

/** A thread that has had nothing to do for so long is ended: it holds some ten megabytes. */
const idleMs = 10_000;

/**
 * Threads in which whole trees of files are measured, copied and deleted, with synchronous calls: several times
 * cheaper than asynchronous ones, and the main thread goes on answering meanwhile.
 *
 * They are started when there is work. Disposing gives up what is being done.
 */
export class Trees implements AsyncDisposable {
  /** So many jobs run at a time; more would only compete for the disk. */
  readonly maxThreads = Math.min(4, availableParallelism());
  readonly #threads = new Set<TreeThread>();
  readonly #queue: Waiting[] = [];
  #disposed = false;

  /**
   * Does one job.
   *
   * @throws {ResourceExhaustedError} if the disk is full.
   * @throws the reason of `signal` once that is aborted; the job then has stopped.
   */
  run<K extends keyof TreeJobs>(
    kind: K,
    job: TreeJobs[K]["job"],
    signal?: AbortSignal,
  ): Promise<TreeJobs[K]["result"]> {
    if (this.#disposed) {
      return Promise.reject(new UnavailableError("Cannot work on files: the snapshotter is stopping"));
    }
    const { promise, resolve, reject } = Promise.withResolvers<TreeJobs[K]["result"]>();
    this.#queue.push({ job: { kind, ...job } as TreeJob, signal, resolve, reject });
    this.#dispatch();
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    const stopping = new UnavailableError("Cannot finish work on files: the snapshotter is stopping");
    for (const { reject } of this.#queue.splice(0)) {
      reject(stopping);
    }
    await Promise.all([...this.#threads].map((thread) => thread.stop()));
  }

  readonly #dispatch = (): void => {
    const thread = this.#freeThread();
    if (thread === undefined) {
      return;
    }
    const next = this.#queue.shift();
    if (next === undefined) {
      return;
    }
    if (next.signal?.aborted) {
      next.reject(next.signal.reason);
      this.#dispatch();
      return;
    }
    thread.run(next, this.#dispatch);
  };

  #freeThread(): TreeThread | undefined {
    for (const thread of this.#threads) {
      if (thread.free) {
        return thread;
      }
    }
    if (this.#queue.length === 0 || this.#threads.size === this.maxThreads) {
      return undefined;
    }
    const thread = new TreeThread(() => this.#threads.delete(thread));
    this.#threads.add(thread);
    return thread;
  }
}

class TreeThread {
  /** Shared with the thread, which tells in it that it has loaded; we, that it shall give up. */
  readonly #flags = new Int32Array(new SharedArrayBuffer(8));
  readonly #exited = Promise.withResolvers<void>();
  readonly #worker: Worker;
  #current: Waiting | undefined;
  #idle: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(onExit: () => void) {
    const workerData = this.#flags.buffer;
    this.#worker = new Worker(new URL("./tree-worker.ts", import.meta.url), { workerData });
    this.#worker.unref();
    this.#worker.on("error", (error) => this.#settle({ failure: failureOf(error) }));
    this.#worker.on("exit", () => {
      this.#exited.resolve();
      onExit();
      this.#settle({
        failure: { reason: "UNAVAILABLE", message: "Cannot work on files: the thread has ended" },
      });
    });
  }

  get free(): boolean {
    return this.#current === undefined && !this.#stopping;
  }

  run(next: Waiting, onFree: () => void): void {
    clearTimeout(this.#idle);
    this.#worker.ref();
    this.#current = next;
    Atomics.store(this.#flags, canceledFlag, 0);
    const cancel = () => Atomics.store(this.#flags, canceledFlag, 1);
    next.signal?.addEventListener("abort", cancel, { once: true });
    this.#worker.once("message", (reply: TreeReply) => {
      next.signal?.removeEventListener("abort", cancel);
      this.#worker.unref();
      this.#settle(reply);
      this.#idle = setTimeout(() => void this.stop(), idleMs).unref();
      onFree();
    });
    this.#worker.postMessage(next.job);
  }

  /** Gives up what is being done and ends the thread. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#idle);
    Atomics.store(this.#flags, canceledFlag, 1);
    // A thread that is ended while it loads the native addon takes the whole process with it.
    this.#worker.ref();
    const loaded = Atomics.waitAsync(this.#flags, loadedFlag, 0);
    await Promise.race([loaded.value, this.#exited.promise]);
    await this.#worker.terminate();
  }

  #settle(reply: TreeReply): void {
    const current = this.#current;
    this.#current = undefined;
    if (current === undefined) {
      return;
    }
    if ("result" in reply) {
      current.resolve(reply.result as never);
    } else {
      current.reject(
        current.signal?.aborted ? current.signal.reason : explainHostFailure(errorOf(reply.failure)),
      );
    }
  }
}
