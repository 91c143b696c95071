import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AlreadyExistsError } from "@oci-worker/errdefs";
import { type MountedDirectory, mountTemporarily } from "@oci-worker/mounts/mount";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { chainIDs } from "@oci-worker/oci/chain-id";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import type { ImageLayerContent } from "../../e2e/peers/image.ts";
import { endLazyMounts } from "../../e2e/peers/lazy-mounts.ts";
import { type ProcessOptions, type ProcessPeer, startProcess } from "../../e2e/peers/process.ts";
import { startResolver } from "../../e2e/peers/resolver.ts";
import type { GoProgram } from "../go-program.ts";
import { cpuSeconds } from "../load.ts";

/** What a snapshotter fetches that nobody has read. */
export interface Eagerness {
  /** What the image says that a container reads first, and the rest of the layer after it. */
  readonly ahead: boolean;
}

/** A snapshotter that mounts layers without fetching them, on a root of its own. Disposing removes all of it. */
export interface LazySubject extends AsyncDisposable {
  readonly address: string;
  readonly root: string;
  readonly process: ProcessPeer;
  readonly direct: Snapshotter;
  /** CPU time that it has used so far, that of what it asks for sources included. */
  cpuSeconds(): Promise<number>;
}

export type StartSubject = (eagerness: Eagerness) => Promise<LazySubject>;

/** `oci-snapshotter` with stargz, out of the bundle in the directory `programs`, and the resolver that tells it where layers are. */
export function startOurs(programs: string): StartSubject {
  return (eagerness) => startOursOnce(join(programs, "bin/oci-snapshotter"), eagerness);
}

async function startOursOnce(program: string, { ahead }: Eagerness): Promise<LazySubject> {
  await using undo = new AsyncDisposableStack();
  const resolver = undo.use(await startResolver({ logLevel: "info" }));
  const subject = await startSubject(async (directory, places) => {
    const config = join(directory, "config.toml");
    await writeFile(config, ahead ? "" : "lazyPrefetch = false\nlazyBackgroundFetch = false\n");
    return {
      program,
      args: [
        ...places,
        "--snapshotter",
        "stargz",
        "--resolver-address",
        resolver.address,
        "--config",
        config,
      ],
      ready: /"msg":"serving"/,
    };
  });
  undo.use(subject);
  const owned = undo.move();
  return {
    ...subject,
    cpuSeconds: async () => (await subject.cpuSeconds()) + (await cpuSeconds(resolver.process.pid)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** stargz-snapshotter's library, served by `program`, the peer `stargz`. It ends with this process, however that ends. */
export function startStargz(program: GoProgram): StartSubject {
  return ({ ahead }) =>
    startSubject(async (_, places) => ({
      program: "/usr/bin/setpriv",
      args: [
        ...["--pdeathsig", "KILL", program.path, ...places],
        ...(ahead ? [] : ["--prefetch=false", "--background=false"]),
      ],
      ready: /^serving$/,
    }));
}

async function startSubject(
  describe: (directory: string, places: readonly string[]) => Promise<ProcessOptions>,
): Promise<LazySubject> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "bench-lazy-"))).path;
  const address = join(directory, "s.sock");
  const root = join(directory, "root");
  undo.defer(async () => void (await unmountBeneath(directory)));
  // What outlives it on purpose, for the next one.
  undo.defer(() => endLazyMounts(root));
  const process = undo.use(
    await startProcess(await describe(directory, ["--root", root, "--address", address])),
  );
  const direct = undo.use(openProxy(address, { snapshotter: "" }));
  const owned = undo.move();
  return {
    address,
    root,
    process,
    direct,
    cpuSeconds: () => cpuSeconds(process.pid),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Prepares the layers of `image` as a client with the labels of stargz-snapshotter does. Gives the name of the topmost. */
export async function prepareLayers(
  subject: LazySubject,
  image: string,
  layers: readonly ImageLayerContent[],
): Promise<string> {
  const { direct, process } = subject;
  let parent: string | undefined;
  const chain = chainIDs(layers.map(({ diffID }) => diffID));
  for (const [index, { descriptor }] of layers.entries()) {
    const name = chain[index] ?? "";
    const inherited = Object.entries(descriptor.annotations ?? {}).filter(([key]) =>
      key.startsWith(inheritedPrefix),
    );
    const labels = {
      ...Object.fromEntries(inherited),
      "containerd.io/snapshot.ref": name,
      "containerd.io/snapshot/remote/stargz.reference": image,
      "containerd.io/snapshot/remote/stargz.digest": descriptor.digest,
      // Neighbours that would be looked at ahead; a client gives as many as a label can hold.
      "containerd.io/snapshot/remote/stargz.layers": layers
        .slice(index, index + layersInLabel)
        .map((each) => each.descriptor.digest)
        .join(","),
    };
    try {
      await direct.prepare(`extract-${name}`, parent, labels);
    } catch (error) {
      if (error instanceof AlreadyExistsError) {
        parent = name;
        continue;
      }
      await subject[Symbol.asyncDispose]();
      throw new Error(`Layer ${descriptor.digest}: ${process.log.slice(-20).join("\n")}`, { cause: error });
    }
    throw new Error(`Layer ${descriptor.digest} is not lazy:\n${process.log.slice(-20).join("\n")}`);
  }
  return parent ?? "";
}

/** Annotations of a layer that clients of containerd hand on as labels begin with it. */
const inheritedPrefix = "containerd.io/snapshot/";

/** 71 bytes and a comma each, of 4096 that a label and its value may have. */
const layersInLabel = 50;

/** Mounts what a container on `parent` would see. */
export async function mountContainer(
  { direct, root }: LazySubject,
  parent: string,
): Promise<MountedDirectory> {
  const mounts = await direct.prepare("container", parent, {});
  return await mountTemporarily(mounts, join(root, ".."));
}
