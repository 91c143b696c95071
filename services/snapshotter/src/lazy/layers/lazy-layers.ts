import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { on } from "node:events";
import { join } from "node:path";
import { MessageChannel, Worker } from "node:worker_threads";
import { UnavailableError } from "@oci-worker/errdefs";
import { resendUnanswered } from "@oci-worker/fuse/device";
import type { Logger } from "pino";
import { errorOf } from "../../trees/jobs.ts";
import type { LazySettings, OpenedLayer } from "./layer-set.ts";
import type { LayerStatus } from "./layer-status.ts";
import type { DeviceThreadData, FromLazyThread, LazyCalls, LazyThreadData } from "./messages.ts";

export type { LayerStatus, LazySettings, OpenedLayer };

/** What an operator gets who sets nothing. */
export const defaultLazySettings: LazySettings = {
  cacheQuotaBytes: undefined,
  prefetch: true,
  prefetchTimeoutMs: 10_000,
  backgroundFetch: true,
  fetchTimeoutMs: 60_000,
  openTimeoutMs: 10_000,
  allowUnverified: false,
  maxConcurrentFetches: 8,
  xattrNamespace: "trusted",
};

export interface LazyLayersOptions {
  /** Directory for the layers. The caller holds its lock. */
  readonly root: string;
  readonly settings: LazySettings;
  readonly resolverAddress: string;
  /** The FUSE device, mounted at `mountPoint`. It stays the caller's. */
  readonly fuseFd: number;
  readonly mountPoint: string;
  /** Whether an earlier process has served it, whose unanswered requests are ours then. */
  readonly adopted: boolean;
}

/**
 * The layers that can be mounted before they are fetched.
 *
 * Two threads do the work: one answers the kernel, one fetches. What is wanted of a layer comes when it is read, checked
 * against its digest; what does not come, or is wrong, is EIO, never zeros. What has come stays, for the next process too.
 */
export class LazyLayers implements AsyncDisposable {
  readonly #fetcher: Worker;
  readonly #deviceEnded: Promise<unknown>;
  readonly #stopped: Int32Array<SharedArrayBuffer>;
  readonly #mountPoint: string;
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  #lastCall = 0;
  #end: Error | undefined;

  private constructor(
    fetcher: Worker,
    device: Worker,
    { stopped, mountPoint, log }: { stopped: Int32Array<SharedArrayBuffer>; mountPoint: string; log: Logger },
  ) {
    this.#fetcher = fetcher;
    this.#deviceEnded = new Promise((resolve) => device.once("exit", resolve));
    this.#stopped = stopped;
    this.#mountPoint = mountPoint;
    fetcher.on("message", (message: FromLazyThread) => this.#take(message, log));
    for (const [thread, name] of [
      [fetcher, "fetches"],
      [device, "serves the kernel"],
    ] as const) {
      thread.on("error", (error) => {
        log.error({ error }, `the thread that ${name} has failed`);
        this.#failAll(new UnavailableError(`Cannot work on lazy layers: the thread that ${name} has failed`));
      });
    }
    fetcher.on("exit", () =>
      this.#failAll(new UnavailableError("Cannot work on lazy layers: they are closed")),
    );
  }

  /** Serves the layers that are on disk, and others as they are opened. @throws if the threads cannot be started. */
  static async open(options: LazyLayersOptions, log: Logger): Promise<LazyLayers> {
    const { root, settings, resolverAddress, fuseFd, mountPoint, adopted } = options;
    const { port1, port2 } = new MessageChannel();
    const fetcherData: LazyThreadData = { root, settings, resolverAddress, fuseFd, device: port1 };
    const fetcher = new Worker(new URL("./lazy-thread.ts", import.meta.url), {
      workerData: fetcherData,
      transferList: [port1],
    });
    // Before that, the kernel must not be answered: it would be told that there are no such layers.
    await untilReady(fetcher, log);
    const stopped = new Int32Array(new SharedArrayBuffer(4));
    const deviceData: DeviceThreadData = { fuseFd, fetcher: port2, stopped };
    const device = new Worker(new URL("../device/device-thread.ts", import.meta.url), {
      workerData: deviceData,
      transferList: [port2],
    });
    const layers = new LazyLayers(fetcher, device, { stopped, mountPoint, log });
    if (adopted && !resendUnanswered(fuseFd)) {
      log.warn(
        "this kernel does not repeat requests: reads that a killed process left unanswered wait for ever",
      );
    }
    return layers;
  }

  /**
   * Makes the layer that a snapshot with `labels` is for ready to be mounted: reads its table of contents, or finds it on
   * disk. Opening one that is open is cheap.
   *
   * @throws {ServiceError} with the reason why it cannot be mounted before it is fetched: the caller unpacks it then.
   */
  open(labels: Readonly<Record<string, string>>, signal: AbortSignal): Promise<OpenedLayer> {
    return this.#call("open", { labels }, signal);
  }

  /** Waits until what the layer's image wants before it is started is there, or the time for that is up. */
  prefetched(number: number): Promise<void> {
    return this.#call("prefetched", { number });
  }

  /**
   * To be asked before the data file of a layer is mounted in the place of its FUSE file, and for each such mount that an
   * earlier process has made: none of it is given up then, until {@link releaseDevice}.
   *
   * @returns false if not all of it is there.
   */
  useAsDevice(number: number): Promise<boolean> {
    return this.#call("useAsDevice", { number });
  }

  /** The data file of the layer is mounted nowhere any more. */
  releaseDevice(number: number): Promise<void> {
    return this.#call("releaseDevice", { number });
  }

  /** Deletes a layer that is mounted nowhere, and what has been fetched of it. */
  forget(number: number): Promise<void> {
    return this.#call("forget", { number });
  }

  status(): Promise<LayerStatus[]> {
    return this.#call("status", {});
  }

  /** Paths of the files of a layer that have been read since this process has started, in the order of their first read. */
  firstReads(number: number): Promise<string[]> {
    return this.#call("firstReads", { number });
  }

  /** Ends the threads. Mounts stay: reads of what has not been fetched wait for whoever serves the device next. */
  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.#stopped, 0, 1);
    // It waits for the kernel: only a request wakes it. Somebody else has to ask, one who may wait for the answer.
    const name = join(this.#mountPoint, `wake-${randomUUID()}`);
    execFile("stat", [name], { timeout: 10_000, killSignal: "SIGKILL" }, () => undefined);
    await this.#deviceEnded;
    await this.#call("stop", {}).catch(() => undefined);
    await this.#fetcher.terminate();
  }

  #call<K extends keyof LazyCalls>(
    kind: K,
    call: LazyCalls[K]["call"],
    signal?: AbortSignal,
  ): Promise<LazyCalls[K]["result"]> {
    if (this.#end !== undefined) {
      return Promise.reject(this.#end);
    }
    signal?.throwIfAborted();
    this.#lastCall += 1;
    const id = this.#lastCall;
    const answer = Promise.withResolvers<unknown>();
    this.#calls.set(id, answer);
    this.#fetcher.postMessage({ ...call, kind, id });
    const cancel = () => {
      this.#fetcher.postMessage({ kind: "cancel", id });
      answer.reject(signal?.reason);
    };
    signal?.addEventListener("abort", cancel, { once: true });
    return answer.promise.finally(() => {
      this.#calls.delete(id);
      signal?.removeEventListener("abort", cancel);
    }) as Promise<LazyCalls[K]["result"]>;
  }

  #take(message: FromLazyThread, log: Logger): void {
    switch (message.kind) {
      case "ready":
        return;
      case "log":
        log.info(message.fields, message.message);
        return;
      case "result":
        this.#calls.get(message.id)?.resolve(message.result);
        return;
      case "failure":
        this.#calls.get(message.id)?.reject(errorOf(message.failure));
    }
  }

  #failAll(error: Error): void {
    this.#end ??= error;
    for (const { reject } of this.#calls.values()) {
      reject(error);
    }
  }
}

async function untilReady(fetcher: Worker, log: Logger): Promise<void> {
  for await (const [message] of on(fetcher, "message")) {
    const { kind, ...rest } = message as FromLazyThread;
    if (kind === "ready") {
      return;
    }
    log.warn(rest, "while lazy layers were being loaded");
  }
}
