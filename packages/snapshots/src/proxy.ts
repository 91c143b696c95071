import { type CallOptions, type Client, createClient, type Transport } from "@connectrpc/connect";
import { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { fromConnectError } from "@oci-worker/errdefs/connect";
import { unixChannel } from "@oci-worker/grpc/channel";
import type { Mount } from "@oci-worker/mounts/mount";
import { infoFromProto, mountFromProto } from "./convert.ts";
import { type LabelChange, type Labels, updatePathsOf } from "./labels.ts";
import type { Info, Snapshotter, Usage } from "./snapshotter.ts";
import { walkPages } from "./walk-pages.ts";

export interface ProxyOptions {
  /**
   * Which snapshotter of the server: needed by containerd, where it is the name of a plugin. One that serves nothing
   * else takes it for the name of its client.
   */
  readonly snapshotter: string;
  /** containerd's name space, sent as `containerd-namespace`; containerd refuses calls without one. */
  readonly namespace?: string;
  /** How long a call waits for a server that cannot be reached, such as one that restarts. 0: it fails at once. */
  readonly patienceMs?: number;
}

/**
 * A snapshotter in another process, on the unix socket `address` (with or without `unix://`).
 *
 * Nothing is dialled before the first call. What it throws are the error classes of `@oci-worker/errdefs`.
 */
export function openProxy(address: string, options: ProxyOptions): Snapshotter {
  const { patienceMs = 0 } = options;
  const channel = unixChannel(address, { patienceMs });
  return new SnapshotterProxy(channel, options, () => channel[Symbol.dispose]());
}

class SnapshotterProxy implements Snapshotter {
  readonly #client: Client<typeof Snapshots>;
  readonly #snapshotter: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #close: () => void;

  constructor(transport: Transport, { snapshotter, namespace }: ProxyOptions, close: () => void) {
    this.#client = createClient(Snapshots, transport);
    this.#snapshotter = snapshotter;
    this.#headers = namespace === undefined ? {} : { "containerd-namespace": namespace };
    this.#close = close;
  }

  async stat(key: string, signal?: AbortSignal): Promise<Info> {
    const { info } = await answer(this.#client.stat(this.#about(key), this.#call(signal)));
    return infoFromProto(present(info));
  }

  async update(key: string, change: LabelChange, signal?: AbortSignal): Promise<Info> {
    const labels = "replace" in change ? change.replace : change.merge;
    const request = {
      snapshotter: this.#snapshotter,
      info: { name: key, labels },
      updateMask: { paths: updatePathsOf(change) },
    };
    const { info } = await answer(this.#client.update(request, this.#call(signal)));
    return infoFromProto(present(info));
  }

  async usage(key: string, signal?: AbortSignal): Promise<Usage> {
    const { size, inodes } = await answer(this.#client.usage(this.#about(key), this.#call(signal)));
    return { sizeBytes: size, inodes };
  }

  async mounts(key: string, signal?: AbortSignal): Promise<Mount[]> {
    const { mounts } = await answer(this.#client.mounts(this.#about(key), this.#call(signal)));
    return mounts.map(mountFromProto);
  }

  async prepare(
    key: string,
    parent: string | undefined,
    labels: Labels,
    signal?: AbortSignal,
  ): Promise<Mount[]> {
    const request = { ...this.#about(key), parent: parent ?? "", labels };
    const { mounts } = await answer(this.#client.prepare(request, this.#call(signal)));
    return mounts.map(mountFromProto);
  }

  async view(
    key: string,
    parent: string | undefined,
    labels: Labels,
    signal?: AbortSignal,
  ): Promise<Mount[]> {
    const request = { ...this.#about(key), parent: parent ?? "", labels };
    const { mounts } = await answer(this.#client.view(request, this.#call(signal)));
    return mounts.map(mountFromProto);
  }

  async commit(
    name: string,
    key: string,
    labels: Labels,
    parent?: string,
    signal?: AbortSignal,
  ): Promise<void> {
    const request = { ...this.#about(key), name, labels, parent: parent ?? "" };
    await answer(this.#client.commit(request, this.#call(signal)));
  }

  async remove(key: string, signal?: AbortSignal): Promise<void> {
    await answer(this.#client.remove(this.#about(key), this.#call(signal)));
  }

  walk(filters: readonly string[], signal?: AbortSignal): AsyncGenerator<Info> {
    return walkPages(this.pages(filters, signal));
  }

  async *pages(filters: readonly string[], signal?: AbortSignal): AsyncGenerator<Info[]> {
    const request = { snapshotter: this.#snapshotter, filters: [...filters] };
    // A connect client goes on receiving when its caller leaves the loop, unless it is told.
    const left = new AbortController();
    const ended = signal === undefined ? left.signal : AbortSignal.any([left.signal, signal]);
    try {
      for await (const { info } of this.#client.list(request, this.#call(ended))) {
        if (info.length > 0) {
          yield info.map(infoFromProto);
        }
      }
    } catch (thrown) {
      throw fromConnectError(thrown);
    } finally {
      left.abort();
    }
  }

  async cleanup(signal?: AbortSignal): Promise<void> {
    await answer(this.#client.cleanup({ snapshotter: this.#snapshotter }, this.#call(signal)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close();
  }

  #about(key: string): { snapshotter: string; key: string } {
    return { snapshotter: this.#snapshotter, key };
  }

  #call(signal: AbortSignal | undefined): CallOptions {
    return { headers: this.#headers, ...(signal && { signal }) };
  }
}

async function answer<T>(response: Promise<T>): Promise<T> {
  try {
    return await response;
  } catch (thrown) {
    throw fromConnectError(thrown);
  }
}

function present<T>(info: T | undefined): T {
  if (info === undefined) {
    throw new Error("the snapshotter answered without an info");
  }
  return info;
}
