import assert from "node:assert/strict";
import { mkdtempDisposable, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BuildKitClient } from "@oci-worker/client";
import { mountPointsBeneath } from "@oci-worker/mounts/mountinfo";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Info } from "@oci-worker/snapshots/snapshotter";
import { endLazyMounts } from "./lazy-mounts.ts";
import { type ProcessOptions, type ProcessPeer, startProcess } from "./process.ts";

const program = join(import.meta.dirname, "../../services/worker/bin/oci-worker");

export interface WorkerOptions {
  readonly args?: readonly string[];
  /** Text of its buildkitd.toml. */
  readonly config?: string;
  readonly environment?: NodeJS.ProcessEnv;
  /** Of a snapshotter that runs already; absent: the worker's own one. */
  readonly snapshotterAddress?: string;
  /** What that is to be called, if it asks for a name: containerd does. */
  readonly snapshotterName?: string;
  /** Path of the program, in place of the one that runs from source. */
  readonly program?: string;
  /** State of an earlier worker to go on with; absent: a directory of its own, which is gone afterwards. */
  readonly directory?: string;
}

/** The program oci-worker with its two children, as processes. Disposing ends it and checks that it has left nothing. */
export interface WorkerPeer extends WorkerPlace, AsyncDisposable {
  readonly process: ProcessPeer;
  readonly client: BuildKitClient;
  /** Names and keys of the snapshots there are. */
  snapshots(): Promise<string[]>;
  /** Checks that no container, mount, bundle or snapshot of a build that has ended is left. */
  assertClean(): Promise<void>;
}

/** Where a worker keeps its things, beneath a directory of its own. */
export interface WorkerPlace {
  readonly directory: string;
  readonly root: string;
  /** Of its Control API. */
  readonly address: string;
}

export function workerPlace(directory: string): WorkerPlace {
  const address = `unix://${join(directory, "worker.sock")}`;
  return { directory, root: join(directory, "root"), address };
}

/** How a worker is started at `place`, with its config file written there. It sees no docker config but its own empty one. */
export async function workerProgram(
  { directory, root, address }: WorkerPlace,
  options: WorkerOptions = {},
): Promise<ProcessOptions> {
  const file = join(directory, "buildkitd.toml");
  await writeFile(file, options.config ?? "");
  return {
    program: options.program ?? program,
    args: ["--root", root, "--addr", address, "--config", file, "--debug", ...(options.args ?? [])],
    environment: { DOCKER_CONFIG: directory, ...options.environment },
    ready: /"name":"worker".*"msg":"serving"/,
  };
}

/** Starts a worker and waits until it serves. */
export async function startWorker(options: WorkerOptions = {}): Promise<WorkerPeer> {
  await using undo = new AsyncDisposableStack();
  const directory = options.directory ?? undo.use(await mkdtempDisposable(join(tmpdir(), "worker-"))).path;
  const place = workerPlace(directory);
  const { address } = place;
  // What a lazy snapshotter has mounted outlives it on purpose.
  undo.defer(() => endLazyMounts(snapshotterRoot(place)));
  const process = undo.use(await startProcess(await workerProgram(place, options)));
  const client = undo.use(new BuildKitClient(address));
  const snapshotterAddress = options.snapshotterAddress ?? snapshotterSocket(place);
  const snapshotter = undo.use(
    openProxy(snapshotterAddress, { snapshotter: options.snapshotterName ?? "auto", namespace: "buildkit" }),
  );
  const snapshots = async () => {
    const infos = await Array.fromAsync(snapshotter.walk([]));
    return infos.map(({ kind, name }) => `${kind} ${name}`);
  };
  const assertClean = async () => {
    await assertNothingLeft(place, process.hasEnded);
    if (process.hasEnded) {
      return;
    }
    const unfinished = (await snapshots()).filter(
      (snapshot) => !/^(committed |active cachemount-)/.test(snapshot),
    );
    assert.deepEqual(unfinished, [], "a snapshot is left that nobody works on");
  };
  undo.defer(assertClean);
  const owned = undo.move();
  return {
    ...place,
    process,
    client,
    snapshots,
    assertClean,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Checks that no container, mount or bundle of a build that has ended, or whose worker has died, is left. */
export async function assertNothingLeft(place: WorkerPlace, hasEnded: boolean): Promise<void> {
  const { root } = place;
  assert.deepEqual(await readdir(join(root, "runc")).catch(() => []), [], "a container is left");
  const mounts = await mountPointsBeneath(root);
  // Networks are kept for the next steps while the worker runs, lazy layers for longer.
  const kept = [`${snapshotterRoot(place)}/`, ...(hasEnded ? [] : [join(root, "net/cni/")])];
  const left = mounts.filter((path) => !kept.some((start) => path.startsWith(start)));
  assert.deepEqual(left, [], "a mount is left");
  assert.deepEqual(await readdir(join(root, "executor")), [], "a bundle is left");
  assert.deepEqual(await readdir(join(root, "mounts")), [], "a mount point is left");
}

/** The snapshots of the worker's own snapshotter, while it runs. */
export async function snapshotsOf(place: WorkerPlace): Promise<Info[]> {
  await using snapshotter = openProxy(snapshotterSocket(place), {
    snapshotter: "auto",
    namespace: "buildkit",
  });
  return await Array.fromAsync(snapshotter.walk([]));
}

function snapshotterRoot({ root }: WorkerPlace): string {
  return join(root, "snapshotter");
}

function snapshotterSocket({ root }: WorkerPlace): string {
  return join(root, "snapshotter.sock");
}
