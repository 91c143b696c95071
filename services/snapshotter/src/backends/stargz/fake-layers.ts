import { writeFile } from "node:fs/promises";
import { NotFoundError, UnavailableError } from "@oci-worker/errdefs";
import { UMOUNT_NOFOLLOW, umount2 } from "@oci-worker/libc/mount";
import { mountAll } from "@oci-worker/mounts/mount";
import type { Labels } from "@oci-worker/snapshots/labels";
import type {
  LayerIdentity,
  LayerMounts,
  LayerStatus,
  LazyLayers,
  OpenedLayer,
} from "../../lazy/lazy-layers.ts";
import type { LazyParts } from "./open-lazy-parts.ts";

export const digestLabel = "containerd.io/snapshot/remote/stargz.digest";

/**
 * Stands for the layers of registries and for what serves them, where the protocol around these is tested. A layer is
 * mounted for real: as a tmpfs of its own, with one file that has its digest.
 */
export class FakeLayers implements LazyLayers, LayerMounts {
  readonly mode = "tmpfs";
  readonly passedOver = [{ mode: "erofs", obstacle: "this is a test" }];
  /** What an earlier process has mounted is served again. */
  adopted = false;
  /** Why layers cannot be had, by digest. */
  readonly obstacles = new Map<string, string>();
  /** Why layers cannot be mounted, by digest. */
  readonly broken = new Map<string, string>();
  /** Digests, in the order of the calls. */
  readonly opened: string[] = [];
  readonly mounted: string[] = [];
  readonly forgotten: number[] = [];
  /** Layers whose prefetch was waited for. */
  readonly waitedFor: number[] = [];
  /** What {@link open} waits for. */
  gate: Promise<unknown> = Promise.resolve();
  /** What is on disk. */
  readonly #known = new Map<string, number>();

  /** As `openSnapshotter` wants it. */
  parts(openTimeoutMs = 60_000): () => Promise<LazyParts> {
    return async () => ({
      layers: this,
      mounts: this,
      openTimeoutMs,
      [Symbol.asyncDispose]: async () => undefined,
    });
  }

  async open(labels: Labels, signal: AbortSignal): Promise<OpenedLayer> {
    const digest = labels[digestLabel] ?? "";
    this.opened.push(digest);
    await this.gate;
    signal.throwIfAborted();
    const obstacle = this.obstacles.get(digest);
    if (obstacle !== undefined) {
      throw new UnavailableError(obstacle);
    }
    this.#known.set(digest, this.#known.get(digest) ?? this.#known.size + 1);
    return this.#layer(digest);
  }

  async reopen({ digest }: LayerIdentity): Promise<OpenedLayer> {
    const obstacle = this.obstacles.get(digest);
    if (obstacle !== undefined) {
      throw new UnavailableError(obstacle);
    }
    return this.#layer(digest);
  }

  async prefetched(number: number): Promise<void> {
    this.waitedFor.push(number);
  }

  async useAsDevice(): Promise<boolean> {
    return false;
  }

  /** None ever is. */
  onComplete(): void {}

  async forget(number: number): Promise<void> {
    this.forgotten.push(number);
    for (const [digest, each] of this.#known) {
      if (each === number) {
        this.#known.delete(digest);
      }
    }
  }

  async status(): Promise<LayerStatus[]> {
    return [...this.#known.keys()].map((digest) => ({
      ...this.#layer(digest),
      reference: "registry.example/app:1",
      contentBytes: 2000,
      cachedBytes: 1000,
      verifiedBytes: 500,
      fetchedBytes: 100,
      activity: "background",
      host: "https://registry.example",
      failure: { message: "HTTP 500", atMs: 1000 },
    }));
  }

  async mountLayer({ digest }: OpenedLayer, target: string): Promise<void> {
    const why = this.broken.get(digest);
    if (why !== undefined) {
      throw new Error(why);
    }
    await mountAll([{ type: "tmpfs", source: "layer", options: ["size=1m", "mode=0755"] }], target);
    this.mounted.push(digest);
    await writeFile(`${target}/digest`, digest);
  }

  async unmountLayer(target: string): Promise<void> {
    umount2(target, UMOUNT_NOFOLLOW);
  }

  /** Forgets everything that is on disk, as a lost directory would. */
  lose(): void {
    this.#known.clear();
  }

  #layer(digest: string): OpenedLayer {
    const number = this.#known.get(digest);
    if (number === undefined) {
      throw new NotFoundError(`Cannot open layer ${digest}: it is not on disk`);
    }
    const tocDigest = `toc of ${digest}`;
    return {
      digest,
      tocDigest,
      number,
      metaPath: "",
      metaDigest: "",
      dataPath: "",
      dataBlocks: 0,
      isComplete: false,
      isDevice: false,
    };
  }
}
