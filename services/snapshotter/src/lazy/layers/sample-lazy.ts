import { execFile } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { mkdir, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Capability, SourceService } from "@oci-worker/api/ociworker/source";
import { closeDevice, mountDevice, openDevice } from "@oci-worker/fuse/device";
import { implement } from "@oci-worker/grpc/router";
import { serve } from "@oci-worker/grpc/serve";
import { unmount } from "@oci-worker/mounts/mount";
import { digestOf } from "@oci-worker/oci/digest";
import { pino } from "pino";
import type { SampleLayer } from "../sample-layer.ts";
import type { SampleRegistry } from "../sample-registry.ts";
import type { DeviceThreads } from "./device-server.ts";
import type { DetailedStatus } from "./layer-status.ts";
import { defaultLazySettings, LazyLayers, type LazySettings } from "./lazy-layers.ts";

/** Nothing is fetched that was not asked for. */
export const onDemand: LazySettings = { ...defaultLazySettings, prefetch: false, backgroundFetch: false };

const run = promisify(execFile);

/** Lazy layers with all that is around them: a resolver that knows some registries, and a mount. */
export interface SampleLazy extends AsyncDisposable {
  readonly root: string;
  readonly mountPoint: string;
  readonly fuseFd: number;
  readonly resolverAddress: string;
  readonly layers: LazyLayers;
  /** What it has logged. */
  readonly log: readonly string[];
  /** Waits until it has logged something that has `text` in it. */
  logged(text: string): Promise<void>;
  /** Ends what serves, and leaves the rest for another process. */
  stop(): Promise<void>;
  /** Ends what serves and begins anew, as a new process would. */
  restart(settings?: Partial<LazySettings>): Promise<void>;
  /** Waits until the layer is said to be complete. */
  complete(number: number): Promise<void>;
  /** Waits until the layer is said to find no room to be fetched ahead. */
  full(number: number): Promise<void>;
  /** The content of a layer's file, read by another process; or what that says of it. */
  read(number: number, place?: { readonly offset: number; readonly sizeBytes: number }): Promise<Buffer>;
}

/** What a client says of a layer. */
export function labelsOf({ blob, tocDigest }: SampleLayer): Readonly<Record<string, string>> {
  return {
    "containerd.io/snapshot/remote/stargz.reference": "registry.example/app:1",
    "containerd.io/snapshot/remote/stargz.digest": digestOf(blob),
    "containerd.io/snapshot/stargz/toc.digest": tocDigest,
  };
}

/** A resolver that finds every layer at all of `hosts`. */
async function sampleResolver(path: string, hosts: () => readonly string[]): Promise<AsyncDisposable> {
  const handlers = {
    resolveSources: ({ query }: { query: { case?: string | undefined; value?: object | undefined } }) => {
      const { labels = {} } = (query.value ?? {}) as { labels?: Record<string, string> };
      const digest = labels["containerd.io/snapshot/remote/stargz.digest"] ?? "";
      const found = hosts().map((host) => ({
        scheme: "http",
        host,
        path: "/v2",
        capabilities: [Capability.PULL],
      }));
      const source = {
        reference: "registry.example/app:1",
        repository: "app",
        target: { digest },
        handle: "h",
      };
      return { sources: digest === "" ? [] : [{ ...source, hosts: found }] };
    },
    authorize: () => ({ authorization: "" }),
    reportOutcome: () => ({}),
    explainSources: () => ({ explanations: [] }),
  };
  return await serve({
    addresses: [{ path, mode: 0o600 }],
    implementations: [implement(SourceService, handlers)],
  });
}

export async function sampleLazy(
  registries: readonly Pick<SampleRegistry, "host">[],
  settings: Partial<LazySettings> = {},
  threads?: DeviceThreads,
): Promise<SampleLazy> {
  const news = new EventEmitter();
  const lines: string[] = [];
  const write = (line: string) => {
    lines.push(line);
    news.emit("told");
  };
  const log = pino({}, { write });
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "lazy-")));
  const [root, mountPoint] = [join(directory.path, "lazy"), join(directory.path, "blobs")];
  await mkdir(mountPoint);
  const resolverAddress = join(directory.path, "resolver.sock");
  undo.use(await sampleResolver(resolverAddress, () => registries.map(({ host }) => host)));
  const fuseFd = openDevice();
  undo.defer(() => closeDevice(fuseFd));
  mountDevice(fuseFd, mountPoint, { name: "sample", isImage: false });
  undo.defer(() => unmount(mountPoint));
  let served: Promise<void> = Promise.resolve();
  const open = async (changed: Partial<LazySettings>, isAdopted: boolean) => {
    const options = { root, settings: { ...onDemand, ...changed }, resolverAddress };
    const made = await LazyLayers.open(options, log, threads);
    served = made.serve({ kind: "blobs", fd: fuseFd, isAdopted, target: mountPoint });
    return made;
  };
  let layers = await open(settings, false);
  undo.defer(async () => {
    // A second time it is nothing.
    await layers[Symbol.asyncDispose]();
    await served;
  });
  const until = async (number: number, isSo: (status: DetailedStatus) => boolean) => {
    for (;;) {
      const told = once(news, "told");
      const status = (await layers.status()).find((each) => each.number === number);
      if (status !== undefined && isSo(status)) {
        return;
      }
      await told;
    }
  };
  const owned = undo.move();
  return {
    root,
    mountPoint,
    fuseFd,
    resolverAddress,
    log: lines,
    logged: async (text) => {
      while (!lines.some((line) => line.includes(text))) {
        await once(news, "told");
      }
    },
    get layers() {
      return layers;
    },
    stop: () => layers[Symbol.asyncDispose](),
    restart: async (changed = settings) => {
      await layers[Symbol.asyncDispose]();
      layers = await open(changed, true);
    },
    complete: (number) => until(number, ({ isComplete }) => isComplete),
    full: (number) => until(number, ({ background }) => background === "full"),
    read: async (number, place) => await readElsewhere(join(mountPoint, String(number)), place),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Reads a file in another process, a place in it past the kernel's memory and without reading ahead. */
export async function readElsewhere(
  path: string,
  place?: { readonly offset: number; readonly sizeBytes: number },
): Promise<Buffer> {
  const options = {
    encoding: "buffer",
    maxBuffer: 2 ** 30,
    timeout: 120_000,
    killSignal: "SIGKILL",
  } as const;
  if (place === undefined) {
    return (await run("cat", [path], options)).stdout;
  }
  const { offset, sizeBytes } = place;
  const parts = [`if=${path}`, `skip=${offset}`, `count=${sizeBytes}`, "bs=1M", "status=none"];
  const { stdout } = await run("dd", [...parts, "iflag=direct,skip_bytes,count_bytes"], options);
  return stdout;
}
