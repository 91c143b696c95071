import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { on } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { UnavailableError } from "@oci-worker/errdefs";
import { resendUnanswered } from "@oci-worker/fuse/device";
import type { Logger } from "pino";
import { errorOf } from "../../trees/jobs.ts";
import type { ServedDevice } from "../kernel/layer-mounter.ts";
import type { LayerIdentity, OpenedLayer } from "../lazy-layers.ts";
import type { LazySettings } from "./layer-set.ts";
import type { DetailedStatus } from "./layer-status.ts";
import type { DeviceThreadData, FromLazyThread, LazyCalls, LazyThreadData } from "./messages.ts";

export type { LazySettings } from "./layer-set.ts";

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
}

/**
 * How much may pile up before the young are collected. Measured: with more, what a large table of contents leaves is copied
 * more often, and none of it is given back; less costs time.
 */
const fetcherMemory = { maxYoungGenerationSizeMb: 16 };

/** It makes nothing anew for a request. */
const deviceMemory = { maxYoungGenerationSizeMb: 2 };

/** How long is waited for the end of a process that was killed. */
const askingEndsMs = 5000;

/** A thread that serves a device. */
interface DeviceThread {
  readonly ended: Promise<void>;
  readonly stopped: Int32Array<SharedArrayBuffer>;
  /** Somewhere to look a name up, which wakes it. */
  readonly target: string;
}

/**
 * The layers that can be mounted before they are fetched.
 *
 * One thread fetches; for each FUSE device there is one that answers the kernel. What is wanted of a layer comes when it is
 * read, checked against its digest; what does not come, or is wrong, is EIO, never zeros. What has come stays, for the next
 * process too.
 */
export class LazyLayers implements AsyncDisposable {
  readonly #fetcher: Worker;
  readonly #log: Logger;
  readonly #devices = new Set<DeviceThread>();
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #listeners: ((layer: LayerIdentity) => void)[] = [];
  #isClosing = false;
  #lastCall = 0;
  #end: Error | undefined;

  private constructor(fetcher: Worker, log: Logger) {
    this.#fetcher = fetcher;
    this.#log = log;
    fetcher.on("message", (message: FromLazyThread) => this.#take(message));
    fetcher.on("error", (error) => {
      log.error({ error }, "the thread that fetches has failed");
      this.#failAll(new UnavailableError("Cannot work on lazy layers: the thread that fetches has failed"));
    });
    fetcher.on("exit", () =>
      this.#failAll(new UnavailableError("Cannot work on lazy layers: they are closed")),
    );
  }

  /** Opens the layers that are on disk. @throws if the thread cannot be started. */
  static async open(
    { root, settings, resolverAddress }: LazyLayersOptions,
    log: Logger,
  ): Promise<LazyLayers> {
    const workerData: LazyThreadData = { root, settings, resolverAddress };
    const fetcher = new Worker(new URL("./lazy-thread.ts", import.meta.url), {
      workerData,
      resourceLimits: fetcherMemory,
    });
    await untilReady(fetcher, log);
    return new LazyLayers(fetcher, log);
  }

  /**
   * Serves a device of a mounter, as `ServeDevice` wants it, until it is unmounted or this is disposed of. Requests that an
   * earlier process has left unanswered are answered too.
   */
  async serve(device: ServedDevice): Promise<void> {
    try {
      await this.#serveInThread(device);
    } catch (error) {
      this.#log.error({ error, target: device.target }, "lazy layers cannot be served");
    }
  }

  async #serveInThread(device: ServedDevice): Promise<void> {
    const { fd, isAdopted, target } = device;
    const { port1, port2 } = new MessageChannel();
    // Before it answers the kernel: it would say that there are no such layers.
    await this.#call("serve", { device: { fd, thread: port1 } }, undefined, [port1]);
    if (this.#isClosing) {
      return;
    }
    const stopped = new Int32Array(new SharedArrayBuffer(4));
    const workerData: DeviceThreadData = { device, fetcher: port2, stopped };
    const thread = new Worker(new URL("./device-thread.ts", import.meta.url), {
      workerData,
      transferList: [port2],
      resourceLimits: deviceMemory,
    });
    thread.on("error", (error) =>
      this.#log.error({ error, target }, "the thread that serves lazy layers has failed"),
    );
    const ended = new Promise<void>((resolve) => thread.once("exit", () => resolve()));
    const served: DeviceThread = { ended, stopped, target };
    this.#devices.add(served);
    if (isAdopted && !resendUnanswered(fd)) {
      this.#log.warn(
        "this kernel repeats no requests: reads that a killed process left unanswered wait for ever",
      );
    }
    await ended;
    this.#devices.delete(served);
    await this.#call("unserve", { fd }).catch((error: unknown) => {
      // It has ended, and answers nothing.
      this.#log.debug({ error, target }, "lazy layers are closed");
    });
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

  /**
   * A layer that was opened before, from what is on disk: asks nobody.
   *
   * @throws a ServiceError with the reason NOT_FOUND if that is gone, or damaged: then it has to be opened anew.
   */
  reopen({ digest, tocDigest }: LayerIdentity): Promise<OpenedLayer> {
    return this.#call("reopen", { digest, tocDigest });
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

  /** Has `listener` told of each layer from now on of which the last piece has come, or has been found to be good. */
  onComplete(listener: (layer: LayerIdentity) => void): void {
    this.#listeners.push(listener);
  }

  /** Deletes a layer that is mounted nowhere, and what has been fetched of it. */
  forget(number: number): Promise<void> {
    return this.#call("forget", { number });
  }

  status(): Promise<DetailedStatus[]> {
    return this.#call("status", {});
  }

  /** Paths of the files of a layer that have been read since this process has started, in the order of their first read. */
  firstReads(number: number): Promise<string[]> {
    return this.#call("firstReads", { number });
  }

  /** Ends the threads. Mounts stay: reads of what has not been fetched wait for whoever serves the device next. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    await Promise.all([...this.#devices].map(endThread));
    await this.#call("stop", {}).catch(() => undefined);
    await this.#fetcher.terminate();
  }

  #call<K extends keyof LazyCalls>(
    kind: K,
    call: LazyCalls[K]["call"],
    signal?: AbortSignal,
    transferred: readonly MessagePort[] = [],
  ): Promise<LazyCalls[K]["result"]> {
    if (this.#end !== undefined) {
      return Promise.reject(this.#end);
    }
    signal?.throwIfAborted();
    this.#lastCall += 1;
    const id = this.#lastCall;
    const answer = Promise.withResolvers<unknown>();
    this.#calls.set(id, answer);
    this.#fetcher.postMessage({ ...call, kind, id }, [...transferred]);
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

  #take(message: FromLazyThread): void {
    switch (message.kind) {
      case "ready":
        return;
      case "log":
        this.#log.info(message.fields, message.message);
        return;
      case "result":
        this.#calls.get(message.id)?.resolve(message.result);
        return;
      case "complete":
        for (const listener of this.#listeners) {
          listener(message.layer);
        }
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

async function endThread({ ended, stopped, target }: DeviceThread): Promise<void> {
  Atomics.store(stopped, 0, 1);
  // It waits for the kernel: only a request wakes it. Somebody else has to ask, one who may wait for the answer.
  const name = join(target, `wake-${randomUUID()}`);
  const gone = Promise.withResolvers<void>();
  const asking = execFile("stat", [name], () => gone.resolve());
  await ended;
  // Nobody answers it any more, and while it waits the mount is in use. One that is never answered cannot be ended.
  asking.kill("SIGKILL");
  await Promise.race([gone.promise, sleep(askingEndsMs, undefined, { ref: false })]);
}
