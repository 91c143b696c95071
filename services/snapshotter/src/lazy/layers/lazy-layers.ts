import { on } from "node:events";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { UnavailableError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import { errorOf } from "../../trees/jobs.ts";
import type { ServedDevice } from "../kernel/layer-mounter.ts";
import type { LayerIdentity, OpenedLayer } from "../lazy-layers.ts";
import { DeviceServer, type DeviceThreads, deviceThreads } from "./device-server.ts";
import type { LazySettings } from "./layer-set.ts";
import type { DetailedStatus } from "./layer-status.ts";
import type { FromLazyThread, LazyCalls, LazyThreadData } from "./messages.ts";

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
  readonly #threads: DeviceThreads;
  readonly #servers = new Set<DeviceServer>();
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #listeners: ((layer: LayerIdentity) => void)[] = [];
  #isClosing = false;
  #lastCall = 0;
  #end: Error | undefined;

  private constructor(fetcher: Worker, log: Logger, threads: DeviceThreads) {
    this.#fetcher = fetcher;
    this.#log = log;
    this.#threads = threads;
    fetcher.on("message", (message: FromLazyThread) => this.#take(message));
    fetcher.on("error", (error) => {
      log.error({ error }, "the thread that fetches has failed");
      this.#failAll(new UnavailableError("Cannot work on lazy layers: the thread that fetches has failed"));
    });
    fetcher.on("exit", () =>
      this.#failAll(new UnavailableError("Cannot work on lazy layers: they are closed")),
    );
  }

  /**
   * Opens the layers that are on disk.
   *
   * @param threads another way to start what serves devices, for tests of how it ends.
   * @throws if the thread that fetches cannot be started.
   */
  static async open(
    { root, settings, resolverAddress }: LazyLayersOptions,
    log: Logger,
    threads: DeviceThreads = deviceThreads,
  ): Promise<LazyLayers> {
    const workerData: LazyThreadData = { root, settings, resolverAddress };
    const fetcher = new Worker(new URL("./lazy-thread.ts", import.meta.url), {
      workerData,
      resourceLimits: fetcherMemory,
    });
    await untilReady(fetcher, log);
    return new LazyLayers(fetcher, log, threads);
  }

  /**
   * Serves a device of a mounter, as `ServeDevice` wants it, until it is unmounted or this is disposed of. Requests that an
   * earlier process has left unanswered are answered too.
   */
  async serve(device: ServedDevice): Promise<void> {
    if (this.#isClosing) {
      return;
    }
    const { fd, target } = device;
    const connect = async () => {
      const { port1, port2 } = new MessageChannel();
      await this.#call("serve", { device: { fd, thread: port1 } }, undefined, [port1]);
      return port2;
    };
    const server = new DeviceServer({ device, connect, log: this.#log, threads: this.#threads });
    this.#servers.add(server);
    await server.ended;
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

  async status(): Promise<DetailedStatus[]> {
    const layers = await this.#call("status", {});
    const { failure } = [...this.#servers].find((server) => server.failure !== undefined) ?? {};
    return failure === undefined ? layers : layers.map((layer) => ({ ...layer, failure }));
  }

  /** Paths of the files of a layer that have been read since this process has started, in the order of their first read. */
  firstReads(number: number): Promise<string[]> {
    return this.#call("firstReads", { number });
  }

  /** Ends the threads. Mounts stay: reads of what has not been fetched wait for whoever serves the device next. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    await Promise.all([...this.#servers].map((server) => server.end()));
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
