import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { TarMember } from "@oci-worker/layer/tar/writer";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { chainIDs } from "@oci-worker/oci/chain-id";
import { formatReference, type Reference } from "@oci-worker/oci/reference";
import type { ImageLayerContent } from "./image.ts";
import { lazyLayerOf } from "./lazy-images.ts";
import { type SnapshotterPeer, startSnapshotter } from "./snapshotter.ts";
import { killAfter } from "./tree.ts";

const execute = promisify(execFile);
const ociwProgram = join(import.meta.dirname, "../../services/ociw/bin/ociw");

/** Files that do not get smaller, each more than what is fetched around a read: nobody reads one by reading another. */
export interface DistinctFiles {
  readonly layer: ImageLayerContent;
  /** By the number of the file. */
  readonly sums: readonly string[];
}

const fileBytes = 1_500_000;

export async function distinctFiles(count: number): Promise<DistinctFiles> {
  const contents = Array.from({ length: count }, () => randomBytes(fileBytes));
  const members = contents.map((content, index): TarMember => ({ type: "file", name: `${index}`, content }));
  const layer = await lazyLayerOf(members, { chunkBytes: 65_536 });
  return { layer, sums: contents.map((content) => createHash("md5").update(content).digest("hex")) };
}

export interface LazyViewOptions {
  readonly reference: Reference;
  readonly layer: ImageLayerContent;
  readonly resolverAddress: string;
  /** How the snapshotter mounts it. */
  readonly mode: string;
}

/** What `ociw layers --json` tells of a layer. */
export interface ToldLayer {
  readonly host?: string;
  readonly failure?: string;
}

/** A lazy layer that a client of the snapshotter has mounted to look at it. Disposing unmounts and ends all. */
export interface LazyView extends AsyncDisposable {
  readonly snapshotter: SnapshotterPeer;
  /** The MD5 sum of one of its files, read by another process. @throws with what that says. */
  sum(file: number): Promise<string>;
  /** What is told of the layer. */
  told(): Promise<ToldLayer>;
}

/** Nothing is read before it is asked for, and a read that gets nothing fails soon. */
const onDemand = {
  OCI_WORKER_SNAPSHOTTER_LAZY_PREFETCH: "false",
  OCI_WORKER_SNAPSHOTTER_LAZY_BACKGROUND_FETCH: "false",
  OCI_WORKER_SNAPSHOTTER_LAZY_FETCH_TIMEOUT_MS: "5000",
  // A machine that is busy with other tests is no reason not to mount it.
  OCI_WORKER_SNAPSHOTTER_LAZY_OPEN_TIMEOUT_MS: "60000",
};

/** Mounts `layer` as containerd and the worker do, without a pull. @throws if it has to be unpacked. */
export async function openLazyView({
  reference,
  layer,
  resolverAddress,
  mode,
}: LazyViewOptions): Promise<LazyView> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "lazy-view-")));
  const environment = {
    ...onDemand,
    OCI_WORKER_SNAPSHOTTER_RESOLVER_ADDRESS: resolverAddress,
    OCI_WORKER_SNAPSHOTTER_LAZY_MODE: mode,
  };
  const snapshotter = undo.use(await startSnapshotter("stargz", { environment }));
  const { direct, address } = snapshotter;
  const [name = ""] = chainIDs([layer.diffID]);
  const gcRoot = { "containerd.io/gc.root": "test" };
  const labels = {
    ...gcRoot,
    ...layer.descriptor.annotations,
    "containerd.io/snapshot.ref": name,
    "containerd.io/snapshot/remote/stargz.reference": formatReference(reference),
    "containerd.io/snapshot/remote/stargz.digest": layer.descriptor.digest,
  };
  const refusal = await direct.prepare("pull", undefined, labels).catch((error: unknown) => error);
  if (!(refusal instanceof Error) || refusal.name !== "AlreadyExistsError") {
    throw new Error(`the layer is not lazy:\n${snapshotter.log.join("\n")}`, { cause: refusal });
  }
  const mounted = undo.use(await mountTemporarily(await direct.view("look", name, gcRoot), directory.path));
  const [command, ...args] = killAfter;
  const owned = undo.move();
  return {
    snapshotter,
    sum: async (file) =>
      (await execute(command, [...args, "md5sum", String(file)], { cwd: mounted.path })).stdout.slice(0, 32),
    told: async () => {
      const flags = ["layers", "--json", "--snapshotter-address", address];
      const [told = {}]: ToldLayer[] = JSON.parse((await execute(ociwProgram, flags)).stdout).layers;
      return told;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
