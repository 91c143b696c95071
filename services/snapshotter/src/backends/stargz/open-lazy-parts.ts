import { join } from "node:path";
import { FailedPreconditionError } from "@oci-worker/errdefs";
import type { Logger } from "pino";
import type { Config } from "../../config.ts";
import { openLayerMounter } from "../../lazy/kernel/open-layer-mounter.ts";
import { LazyLayers, type LazySettings } from "../../lazy/layers/lazy-layers.ts";
import type { LayerMounts, LazyLayers as Layers } from "../../lazy/lazy-layers.ts";
import { overlayHost } from "../overlayfs/options.ts";

/** What opens layers that nobody has unpacked, and mounts them. */
export interface LazyParts extends AsyncDisposable {
  readonly layers: Layers;
  readonly mounts: LayerMounts;
  /** How long a prepare waits for a layer before the client is told to unpack it. */
  readonly openTimeoutMs: number;
}

/**
 * Takes over, or makes, what lazy layers need: the way to mount them, and the threads that serve and fetch. Disposing ends
 * the threads and leaves the mounts to the next process.
 *
 * @throws {FailedPreconditionError} if no way to mount them runs on this host, or there is no resolver to ask.
 */
export async function openLazyParts(config: Config, log: Logger): Promise<LazyParts> {
  const { root, resolverAddress, lazyMode: mode, lazyOpenTimeoutMs: openTimeoutMs } = config;
  if (resolverAddress === undefined) {
    throw new FailedPreconditionError(
      `Cannot use stargz on ${root}: it asks the resolver where layers are, want its socket as resolverAddress`,
    );
  }
  const directory = join(root, "lazy");
  await using undo = new AsyncDisposableStack();
  const mounts = undo.use(await openLayerMounter({ directory, mode }, log));
  const settings = lazySettings(config);
  const layers = undo.use(await LazyLayers.open({ root: directory, settings, resolverAddress }, log));
  mounts.serveWith((device) => layers.serve(device));
  const owned = undo.move();
  return { layers, mounts, openTimeoutMs, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function lazySettings(config: Config): LazySettings {
  return {
    cacheQuotaBytes: config.lazyCacheQuotaBytes,
    prefetch: config.lazyPrefetch,
    prefetchTimeoutMs: config.lazyPrefetchTimeoutMs,
    backgroundFetch: config.lazyBackgroundFetch,
    fetchTimeoutMs: config.lazyFetchTimeoutMs,
    openTimeoutMs: config.lazyOpenTimeoutMs,
    allowUnverified: config.lazyAllowUnverified,
    maxConcurrentFetches: config.lazyMaxConcurrentFetches,
    // In a user namespace overlayfs looks for its marks elsewhere.
    xattrNamespace: overlayHost().inUserNamespace ? "user" : "trusted",
  };
}
