import { existsSync } from "node:fs";
import { mkdtempDisposable, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unmount } from "@oci-worker/mounts/mount";
import { readMountInfo } from "@oci-worker/mounts/mountinfo";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { endLazyMounts } from "./lazy-mounts.ts";
import { type ProcessOptions, type ProcessPeer, startProcess } from "./process.ts";

const program = join(import.meta.dirname, "../../services/snapshotter/bin/oci-snapshotter");

/** Every backend that journeys under a real containerd are made on: a name here is all that a new one takes. */
export const backends = ["overlayfs", "fuse-overlayfs", "native", "stargz"] as const;

export type BackendName = (typeof backends)[number];

export interface SnapshotterOptions {
  /** An existing directory in which its root and socket shall be; by default one that is removed afterwards. */
  readonly directory?: string;
  /** Beside that of this process. */
  readonly environment?: NodeJS.ProcessEnv;
  /** In place of `debug`, at which each call is a line. */
  readonly logLevel?: string;
  /** Path of the program, in place of the one that runs from source. */
  readonly program?: string;
  /** What to start it by: a program with arguments that becomes it. */
  readonly enter?: readonly string[];
}

/** The program oci-snapshotter on a root of its own, which outlives a restart. Disposing ends it and removes the root. */
export interface SnapshotterPeer extends AsyncDisposable {
  readonly pid: number;
  readonly root: string;
  readonly address: string;
  /** Speaks to it past all clients, and in the name of none. */
  readonly direct: Snapshotter;
  /** What it has logged since it was started last. */
  readonly log: readonly string[];
  /** Resolves with the first line from the line `from` on that matches, of what it has logged since it was started last. */
  said(pattern: RegExp, from?: number): Promise<string>;
  /** Ends it, by SIGTERM or as a crash would, and starts it again, with what happens `between`. */
  restart(how: "stop" | "kill", between?: () => Promise<void>): Promise<void>;
  /** Starts it while it does not run, and ends it as a crash would when it has said what matches. */
  crashAt(line: RegExp): Promise<void>;
}

export interface SnapshotterSettings {
  readonly root: string;
  readonly address: string;
  readonly backend: BackendName;
  readonly flags?: readonly string[];
}

/** How to start the program. */
export function snapshotterProgram({
  root,
  address,
  backend,
  flags = [],
}: SnapshotterSettings): ProcessOptions {
  return {
    program,
    args: ["--root", root, "--address", address, "--snapshotter", backend, ...flags],
    ready: /"msg":"serving"/,
  };
}

/** The directories of snapshotters say which process has them removed. */
const ownPrefix = join(tmpdir(), `snapshotter-${process.pid}-`);

/** Ends and removes what snapshotters have left whose test was killed: their lazy mounts, and who holds them. */
async function sweepAbandoned(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const [, owner] = /^snapshotter-(\d+)-/.exec(name) ?? [];
    if (owner !== undefined && !existsSync(`/proc/${owner}`)) {
      const directory = join(tmpdir(), name);
      try {
        const shown = (await readMountInfo()).filter(({ options }) =>
          options.some((option) => option.includes(`${directory}/`)),
        );
        for (const { mountPoint } of shown) {
          await unmount(mountPoint);
        }
        await endLazyMounts(join(directory, "root"));
        await rm(directory, { recursive: true, force: true });
      } catch {
        // Other tests that are started now find it too.
      }
    }
  }
}

/**
 * Starts a snapshotter and waits until it serves.
 *
 * @throws with all that it has said, if it ends before.
 */
export async function startSnapshotter(
  backend: BackendName,
  options: SnapshotterOptions = {},
): Promise<SnapshotterPeer> {
  const { environment, logLevel = "debug" } = options;
  await using undo = new AsyncDisposableStack();
  if (options.directory === undefined) {
    await sweepAbandoned();
  }
  const directory = options.directory ?? undo.use(await mkdtempDisposable(ownPrefix)).path;
  const root = join(directory, "root");
  const address = join(directory, "snapshotter.sock");
  // What it has mounted outlives it on purpose.
  undo.defer(() => endLazyMounts(root));
  // Without a resolver on this socket all layers are unpacked.
  const resolver = { OCI_WORKER_SNAPSHOTTER_RESOLVER_ADDRESS: join(directory, "resolver.sock") };
  const settings = snapshotterProgram({ root, address, backend, flags: ["--log-level", logLevel] });
  const own = [options.program ?? settings.program, ...settings.args];
  const [command = "", ...args] = [...(options.enter ?? []), ...own];
  const start = (more: Partial<ProcessOptions> = {}): Promise<ProcessPeer> =>
    startProcess({
      ...settings,
      program: command,
      args,
      environment: { ...resolver, ...environment },
      ...more,
    });
  let process = await start();
  undo.defer(() => process[Symbol.asyncDispose]());
  const direct = undo.use(openProxy(address, { snapshotter: "", patienceMs: 10_000 }));
  const owned = undo.move();
  return {
    get pid() {
      return process.pid;
    },
    root,
    address,
    direct,
    get log() {
      return process.log;
    },
    said: (pattern, from) => process.said(pattern, from),
    restart: async (how, between) => {
      await process[how]();
      await between?.();
      process = await start();
    },
    crashAt: async (line) => {
      const dying = await start({ ready: line });
      await dying.kill();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
