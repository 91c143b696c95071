import { type Client, createClient } from "@connectrpc/connect";
import { Control } from "@oci-worker/api/buildkit/control";
import type { Definition } from "@oci-worker/api/buildkit/llb";
import { LLBBridge } from "@oci-worker/api/buildkit/llb-bridge";
import type { BuildkitVersion, WorkerRecord } from "@oci-worker/api/buildkit/worker";
import { CacheService } from "@oci-worker/api/ociworker/worker";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import type { Channel, ClientTls } from "@oci-worker/grpc/channel";
import { platformFromProto } from "@oci-worker/llb/platform";
import type { Platform } from "@oci-worker/oci/platform";
import { type ClientOptions, openChannel } from "./address.ts";
import type { Build, BuildOptions } from "./build/build.ts";
import type { BuildFunction } from "./build/gateway.ts";
import { startBuild } from "./build/running-build.ts";
import { type RemovedRecord, removedRecordOf } from "./cache/removal.ts";
import {
  type CacheRecord,
  cacheRecordOf,
  type DiskUsageOptions,
  type PruneOptions,
  pruneRequest,
} from "./cache/usage.ts";

export type { ClientOptions, ClientTls };

/** A worker of a daemon. */
export interface WorkerInfo {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  /** What it can run, its own platform first. */
  readonly platforms: readonly Platform[];
  /** What its steps can have of devices of the Container Device Interface. */
  readonly devices: readonly DeviceInfo[];
}

/** A device of a worker. */
export interface DeviceInfo {
  /** `vendor/class=name`; of one that is made on demand the kind alone. */
  readonly name: string;
  /** Whether builds get it without the entitlement `device`. */
  readonly isAutoAllowed: boolean;
  readonly isOnDemand: boolean;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Which program a daemon is. */
export interface DaemonInfo {
  readonly package: string;
  readonly version: string;
  readonly revision: string;
}

/**
 * A client of a BuildKit daemon, ours or upstream's.
 *
 * ```ts
 * await using client = new BuildKitClient("unix:///run/oci-worker/worker.sock");
 * const base = image(parseReference("busybox"));
 * const { root } = run({ root: base, args: ["echo", "hello"] });
 * const build = client.solve(definitionOf(root));
 * for await (const { logs } of build.status) { … }
 * await build.result;
 * ```
 */
export class BuildKitClient implements AsyncDisposable {
  readonly #channel: Channel;
  readonly #control: Client<typeof Control>;
  readonly #bridge: Client<typeof LLBBridge>;
  readonly #cache: Client<typeof CacheService>;
  readonly #builds = new Set<Build>();
  readonly #closing = new AbortController();

  /**
   * Nothing is connected before the first call.
   *
   * @param address `unix://` and the path of a socket, or `tcp://` and host and port.
   * @throws {InvalidArgumentError} if the address is of another kind, or TLS cannot be made of what is given.
   */
  constructor(address: string, options: ClientOptions = {}) {
    this.#channel = openChannel(address, options);
    this.#control = createClient(Control, this.#channel);
    this.#bridge = createClient(LLBBridge, this.#channel);
    this.#cache = createClient(CacheService, this.#channel);
  }

  /** Cancels what is still being built, waits for that, and closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled([...this.#builds].map(({ result }) => result));
    this.#channel[Symbol.dispose]();
  }

  /**
   * The workers of the daemon. Builds use the first.
   *
   * @throws {UnavailableError} if the daemon cannot be reached.
   */
  async workers(signal?: AbortSignal): Promise<WorkerInfo[]> {
    try {
      const { record } = await this.#control.listWorkers({}, { ...(signal && { signal }) });
      return record.map(workerOf);
    } catch (thrown) {
      throw fromConnectError(thrown);
    }
  }

  /**
   * Which program the daemon is.
   *
   * @throws {UnavailableError} if it cannot be reached.
   * @throws {UnimplementedError} if it is too old to say.
   */
  async info(signal?: AbortSignal): Promise<DaemonInfo> {
    try {
      const { buildkitVersion } = await this.#control.info({}, { ...(signal && { signal }) });
      return daemonOf(buildkitVersion);
    } catch (thrown) {
      throw fromConnectError(thrown);
    }
  }

  /**
   * What the daemon's cache consists of.
   *
   * @throws {InvalidArgumentError} if a filter cannot be read.
   * @throws {UnavailableError} if the daemon cannot be reached.
   */
  async diskUsage({ filters = [], signal }: DiskUsageOptions = {}): Promise<CacheRecord[]> {
    try {
      const { record } = await this.#control.diskUsage(
        { filter: [...filters] },
        { ...(signal && { signal }) },
      );
      return record.map(cacheRecordOf);
    } catch (thrown) {
      throw fromConnectError(thrown);
    }
  }

  /**
   * Removes from the daemon's cache what is not in use and `options` cover: everything, if they say nothing. Gives each
   * record when it has gone; who stops listening stops it.
   *
   * @throws {InvalidArgumentError} if a filter cannot be read; nothing has been removed then.
   */
  async *prune(options: PruneOptions = {}): AsyncGenerator<CacheRecord, void> {
    // A call does not end by itself when nobody reads its answers any more.
    const stopping = new AbortController();
    const { signal = stopping.signal } = options;
    const ends = AbortSignal.any([signal, stopping.signal]);
    try {
      for await (const record of this.#control.prune(pruneRequest(options), { signal: ends })) {
        yield cacheRecordOf(record);
      }
    } catch (thrown) {
      throw fromConnectError(thrown);
    } finally {
      stopping.abort();
    }
  }

  /**
   * What was removed from the cache and why, the last first. Only an oci-worker knows.
   *
   * @param limit at most so many.
   * @throws {UnimplementedError} if the daemon is another one.
   */
  async removals(limit = 0, signal?: AbortSignal): Promise<RemovedRecord[]> {
    try {
      const { removals } = await this.#cache.listRemovals({ limit }, { ...(signal && { signal }) });
      return removals.map(removedRecordOf);
    } catch (thrown) {
      throw fromConnectError(thrown);
    }
  }

  /** Starts a build that goes as `run` says: it may ask the daemon about images and look at results in between. */
  build(run: BuildFunction, options: BuildOptions = {}): Build {
    const { signal } = options;
    const ends =
      signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
    const build = startBuild({ control: this.#control, bridge: this.#bridge }, run, {
      ...options,
      signal: ends,
    });
    this.#builds.add(build);
    build.result.finally(() => this.#builds.delete(build)).catch(() => undefined);
    return build;
  }

  /** Starts a build of `definition`, which `definitionOf` of the llb package makes. */
  solve(definition: Definition, options: BuildOptions = {}): Build {
    return this.build((gateway) => gateway.solve(definition), options);
  }
}

function workerOf({ ID, Labels, platforms, CDIDevices }: WorkerRecord): WorkerInfo {
  const devices = CDIDevices.map(({ Name, AutoAllow, OnDemand, Annotations }) => ({
    name: Name,
    isAutoAllowed: AutoAllow,
    isOnDemand: OnDemand,
    annotations: Annotations,
  }));
  return { id: ID, labels: Labels, platforms: platforms.map(platformFromProto), devices };
}

function daemonOf(version: BuildkitVersion | undefined): DaemonInfo {
  return {
    package: version?.package ?? "",
    version: version?.version ?? "",
    revision: version?.revision ?? "",
  };
}
