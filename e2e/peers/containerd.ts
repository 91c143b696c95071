import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { unmountBeneath } from "@oci-worker/mounts/mountinfo";
import { type ProcessPeer, startProcess } from "./process.ts";

const run = promisify(execFile);

/** Ends containerd when this process does, however that ends (prctl(2), PR_SET_PDEATHSIG); part of util-linux. */
const withParent = ["--pdeathsig", "KILL", "containerd"] as const;

/** The name under which our snapshotter is known there. */
export const proxied = "ours";

/** A private containerd. Disposing ends it, its containers and its mounts. */
export interface ContainerdPeer extends AsyncDisposable {
  readonly pid: number;
  /** Path of its socket. */
  readonly address: string;
  /** A name space of containerd for this test alone. */
  readonly namespace: string;
  /** What containerd says that it is. */
  readonly version: string;
  /**
   * Runs `ctr` with these arguments.
   *
   * @returns what it prints on standard output.
   * @throws with what it prints on standard error, if it fails.
   */
  ctr(...args: string[]): Promise<string>;
  /** Runs `ctr` again and again until it succeeds: containerd dials a proxy that was away only after a while. */
  ctrAtLast(...args: string[]): Promise<string>;
}

/**
 * Starts containerd, with the snapshotter on the socket `snapshotterAddress` as its plugin {@link proxied} if there is one.
 *
 * @param imported path of a file that its config imports.
 * @throws if containerd or ctr is not installed: a peer that is missing is a failure.
 */
export async function startContainerd(
  snapshotterAddress?: string,
  imported?: string,
): Promise<ContainerdPeer> {
  await using undo = new AsyncDisposableStack();
  const directory = undo.use(await mkdtempDisposable(join(tmpdir(), "containerd-"))).path;
  const address = join(directory, "containerd.sock");
  const state = join(directory, "state");
  const config = join(directory, "config.toml");
  await mkdir(state);
  await writeFile(config, configFor({ directory, address, state, snapshotterAddress, imported }));
  undo.defer(async () => void (await unmountBeneath(directory)));
  const daemon = await startDaemon(config);
  undo.use(daemon);

  const namespace = `e2e-${randomBytes(6).toString("hex")}`;
  const ctr = async (...args: string[]): Promise<string> => {
    try {
      const { stdout } = await run("ctr", ["--address", address, "--namespace", namespace, ...args]);
      return stdout;
    } catch (error) {
      const said = error instanceof Error && "stderr" in error ? String(error.stderr) : String(error);
      throw new Error(`ctr ${args.join(" ")}: ${said.trim()}`, { cause: error });
    }
  };
  const version = /^Server:\n\s*Version:\s*(\S+)/m.exec(await ctr("version"))?.[1] ?? "unknown";
  undo.defer(() => endTasks(ctr));
  const owned = undo.move();
  return {
    pid: daemon.pid,
    address,
    namespace,
    version,
    ctr,
    ctrAtLast: (...args) => untilItSucceeds(() => ctr(...args)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface Places {
  readonly directory: string;
  readonly address: string;
  readonly state: string;
  readonly snapshotterAddress: string | undefined;
  readonly imported: string | undefined;
}

function configFor({ directory, address, state, imported, snapshotterAddress }: Places): string {
  return `
    version = 2
    root = "${directory}/root"
    state = "${state}"
    disabled_plugins = ["io.containerd.grpc.v1.cri"]
    imports = [${imported === undefined ? "" : JSON.stringify(imported)}]
    [grpc]
      address = "${address}"
    ${snapshotterAddress === undefined ? "" : proxyPlugin(snapshotterAddress)}
  `;
}

function proxyPlugin(address: string): string {
  return `[proxy_plugins.${proxied}]\n type = "snapshot"\n address = "${address}"`;
}

async function startDaemon(config: string): Promise<ProcessPeer> {
  try {
    return await startProcess({
      program: "/usr/bin/setpriv",
      args: [...withParent, "--config", config],
      ready: /containerd successfully booted/,
    });
  } catch (cause) {
    const message =
      "missing peer: containerd does not start, install the Debian packages containerd and runc";
    throw new Error(message, { cause });
  }
}

/** Ends what a test that failed has left running: containers outlive their containerd. */
async function endTasks(ctr: ContainerdPeer["ctr"]): Promise<void> {
  for (const task of (await ctr("tasks", "list", "--quiet")).split("\n").filter((line) => line !== "")) {
    await ctr("tasks", "delete", "--force", task);
  }
}

/** containerd waits three seconds at most between two attempts to reach a plugin. */
const patienceMs = 20_000;
const pauseMs = 100;

async function untilItSucceeds<T>(attempt: () => Promise<T>): Promise<T> {
  const giveUpAt = performance.now() + patienceMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > giveUpAt) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}
