import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposable } from "node:fs/promises";
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { type BuildOptions, buildLayer } from "@oci-worker/estargz/build";
import { type TarMember, writeTar } from "@oci-worker/layer/tar/writer";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { chainIDs } from "@oci-worker/oci/chain-id";
import { type ContainerdPeer, proxied, startContainerd } from "./containerd.ts";
import { withExternalToc } from "./external-toc.ts";
import { assembleImage, type ImageLayerContent, layerOf, programs } from "./image.ts";
import { pushTo } from "./pushed-image.ts";
import { type RegistryPeer, startRegistry } from "./registry.ts";
import { startResolver } from "./resolver.ts";
import { type SnapshotterPeer, startSnapshotter } from "./snapshotter.ts";
import { runStargz } from "./stargz.ts";

const execute = promisify(execFile);
const ociwProgram = join(import.meta.dirname, "../../services/ociw/bin/ociw");

/** A layer of `members` that can be read in parts. */
export async function lazyLayerOf(
  members: Iterable<TarMember>,
  options: BuildOptions = {},
): Promise<ImageLayerContent> {
  const archive = Buffer.concat(await Array.fromAsync(writeTar(members)));
  const written: Buffer[] = [];
  const { mediaType, digest, sizeBytes, annotations, diffID } = await buildLayer(
    { pieces: [archive], sizeBytes: archive.length },
    async (bytes) => written.push(bytes),
    options,
  );
  return {
    blob: Buffer.concat(written),
    descriptor: { mediaType, digest, size: sizeBytes, annotations },
    diffID,
  };
}

/** A way to a server that can be cut and mended. */
export interface Line extends AsyncDisposable {
  /** Address and port of this end of it. */
  readonly host: string;
  /** Refuses connections, and ends those that there are. */
  cut(): Promise<void>;
  mend(): Promise<void>;
  /** Keeps back what the server answers from now on. Resolves when there is something that it keeps back. */
  hold(): Promise<void>;
  /** Passes on what is kept back, and all that comes. */
  release(): void;
}

/** Where answers wait while a line holds them. */
class Gate {
  #isOpen = Promise.withResolvers<void>();
  #isReached = Promise.withResolvers<void>();

  constructor() {
    this.open();
  }

  close(): Promise<void> {
    this.open();
    this.#isOpen = Promise.withResolvers();
    this.#isReached = Promise.withResolvers();
    return this.#isReached.promise;
  }

  open(): void {
    this.#isOpen.resolve();
  }

  async *through(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of bytes) {
      this.#isReached.resolve();
      await this.#isOpen.promise;
      yield piece;
    }
  }
}

/** Lays a line to `host`, an address and port. */
export async function layLine(host: string): Promise<Line> {
  const [address = "", port = ""] = host.split(":");
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
    return socket;
  };
  let server: Server | undefined;
  const gate = new Gate();
  const listen = async (on: number): Promise<number> => {
    server = createServer((near) => {
      const far = keep(dial(Number(port), address));
      keep(near).pipe(far);
      // Either end may go at any moment.
      pipeline(far, (bytes: AsyncIterable<Buffer>) => gate.through(bytes), near).catch(() => undefined);
      near.on("close", () => far.destroy());
      far.on("close", () => near.destroy());
    });
    server.listen(on, "127.0.0.1");
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  };
  const cut = async () => {
    const closing = server === undefined ? undefined : once(server, "close");
    server?.close();
    server = undefined;
    for (const socket of sockets) {
      socket.destroy();
    }
    await closing;
  };
  const own = await listen(0);
  return {
    host: `127.0.0.1:${own}`,
    cut,
    mend: async () => void (await listen(own)),
    hold: () => gate.close(),
    release: () => gate.open(),
    [Symbol.asyncDispose]: cut,
  };
}

export interface LazyOptions {
  /** What the upper layer of the image has; the lowest one has programs. */
  readonly members: readonly TarMember[];
  /** What those between them have. */
  readonly between?: readonly (readonly TarMember[])[];
  /** Who makes the layers. */
  readonly madeBy?: "us" | "stargz-snapshotter";
  readonly build?: BuildOptions;
  /** Whether the tables of contents of the layers are in an image of their own. */
  readonly hasExternalTocs?: boolean;
  /** Settings of the snapshotter, as variables of its environment have them. */
  readonly settings?: Readonly<Record<string, string>>;
  /** What to start the snapshotter by. */
  readonly enter?: readonly string[];
  /** An existing directory for the snapshotter, in place of one that is removed afterwards. */
  readonly directory?: string;
  /** What stands in front of the registry, whose address and port it is given. */
  readonly front?: (host: string) => Promise<AsyncDisposable & { readonly host: string }>;
}

/** A machine that is busy with other tests is no reason to unpack a layer. */
const patient = { lazy_open_timeout_ms: "60000" };

/** A containerd on our snapshotter, and a registry with an image whose layers need not be unpacked. */
export interface LazyContainerd {
  readonly containerd: ContainerdPeer;
  readonly snapshotter: SnapshotterPeer;
  readonly registry: RegistryPeer;
  /** The way that the snapshotter has to the registry. */
  readonly line: Line;
  /** Name of the image; beside it there is `test/ordinary:1` with the same content, that cannot be read in parts. */
  readonly image: string;
  /** Names of the snapshots of its layers, the lowest first. */
  readonly chain: readonly string[];
  /** Pulls the image as stargz-snapshotter's client does. @throws if a layer of it is unpacked. */
  rpull(): Promise<void>;
  /** Has `use` see the whole tree of the image, mounted for reading. */
  viewed(use: (path: string) => Promise<void>): Promise<void>;
  /** What `ociw` prints about the snapshotter, with these words and flags. */
  ociw(...words: string[]): Promise<string>;
  /** What `ociw layers --json` tells. */
  layers(): Promise<{
    mode: string;
    passedOver: { mode: string; obstacle: string }[];
    layers: { failure?: object }[];
  }>;
  /** Runs a command in a container of the image that is gone afterwards, and gives what it prints. */
  run(id: string, ...command: string[]): Promise<string>;
}

/** Has `use` work with such a containerd, and ends and unmounts it all afterwards. */
export async function withLazyContainerd(
  {
    members,
    between = [],
    madeBy = "us",
    build = { chunkBytes: 65_536 },
    hasExternalTocs = false,
    settings = {},
    enter = [],
    directory,
    front,
  }: LazyOptions,
  use: (on: LazyContainerd) => Promise<void>,
): Promise<void> {
  await using registry = await startRegistry();
  await using before = await front?.(registry.host);
  await using line = await layLine(before?.host ?? registry.host);
  const contents = [await programs(), ...between, members];
  const layers: ImageLayerContent[] = [];
  const tocs: ImageLayerContent[] = [];
  for (const content of contents) {
    const whole = await lazyLayerOf(content, build);
    const { layer, toc } = hasExternalTocs ? withExternalToc(whole) : { layer: whole, toc: undefined };
    layers.push(layer);
    tocs.push(...(toc === undefined ? [] : [toc]));
  }
  if (hasExternalTocs) {
    await pushTo(registry, assembleImage(tocs), "test/lazy", "1-esgztoc");
  }
  const assembled = assembleImage(layers);
  await pushTo(registry, assembled, "test/lazy");
  await pushTo(
    registry,
    assembleImage(await Promise.all(contents.map((content) => layerOf(content)))),
    "test/ordinary",
  );
  const name = `${line.host}/test/lazy:1`;
  const image = madeBy === "us" ? name : await converted(name, `${line.host}/test/converted:1`);
  await using resolver = await startResolver();
  const environment = Object.fromEntries(
    Object.entries({ resolver_address: resolver.address, ...patient, ...settings }).map(([key, value]) => [
      `OCI_WORKER_SNAPSHOTTER_${key.toUpperCase()}`,
      value,
    ]),
  );
  await using snapshotter = await startSnapshotter("stargz", {
    environment,
    enter,
    ...(directory !== undefined && { directory }),
  });
  await using containerd = await startContainerd(snapshotter.address);
  const chain = chainIDs(assembled.diffIDs);
  const ociw = async (...words: string[]) =>
    (await execute(ociwProgram, [...words, "--snapshotter-address", snapshotter.address])).stdout;
  await use({
    containerd,
    snapshotter,
    registry,
    line,
    image,
    chain,
    viewed: async (see) => {
      await using directory = await mkdtempDisposable(join(tmpdir(), "lazily-"));
      const mounts = await snapshotter.direct.view("look", chain.at(-1) ?? "", {
        "containerd.io/gc.root": "test",
      });
      {
        await using mounted = await mountTemporarily(mounts, directory.path);
        await see(mounted.path);
      }
      await snapshotter.direct.remove("look");
    },
    ociw,
    layers: async () => JSON.parse(await ociw("layers", "--json")),
    rpull: async () => {
      await runStargz(containerd, "images", "rpull", "--plain-http", "--snapshotter", proxied, image);
      const unpacked = snapshotter.log.find((line) => line.includes('"remote-snapshot-prepared":"false"'));
      if (unpacked !== undefined) {
        throw new Error(`a layer is not lazy: ${unpacked}`);
      }
    },
    run: (id, ...command) =>
      containerd.ctrAtLast("run", "--rm", "--snapshotter", proxied, image, id, ...command),
  });
}

/** Has stargz-snapshotter make an image of its own kind of `source`, and push it as `target`. */
async function converted(source: string, target: string): Promise<string> {
  await using containerd = await startContainerd();
  await containerd.ctr("content", "fetch", "--plain-http", source);
  await runStargz(containerd, "images", "convert", "--oci", "--estargz", source, target);
  await runStargz(containerd, "images", "push", "--plain-http", target);
  return target;
}
