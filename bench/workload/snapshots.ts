import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { startContainerd } from "../../e2e/peers/containerd.ts";
import { startProcess } from "../../e2e/peers/process.ts";
import { type Load, measure } from "../load.ts";
import type { Comparison, Report } from "../report.ts";

const warmUpMs = 1500;
const durationMs = 5000;

/** containerd's garbage collector removes what has not this label. */
const kept = { "containerd.io/gc.root": "bench" };

/** One figure, and the calls that it is about. */
interface Case {
  readonly what: string;
  readonly concurrency: number;
  /** Of the calls of the case; ours as a multiple of the peer's. */
  readonly wantedRate: number | undefined;
  readonly wantedCpu: number | undefined;
  readonly call: (snapshotter: Snapshotter, key: string) => Promise<unknown>;
}

const cases: readonly Case[] = [
  {
    what: "Stat",
    concurrency: 1,
    wantedRate: undefined,
    wantedCpu: 1,
    call: (snapshotter) => snapshotter.stat("base"),
  },
  {
    what: "Stat",
    concurrency: 64,
    wantedRate: 1.2,
    wantedCpu: 1,
    call: (snapshotter) => snapshotter.stat("base"),
  },
  {
    what: "Prepare + Remove",
    concurrency: 8,
    wantedRate: 5,
    wantedCpu: undefined,
    call: async (snapshotter, key) => {
      await snapshotter.prepare(key, "base", kept);
      await snapshotter.remove(key);
    },
  },
  {
    what: "Prepare + Commit + Remove",
    concurrency: 8,
    wantedRate: 5,
    wantedCpu: undefined,
    call: async (snapshotter, key) => {
      await snapshotter.prepare(key, "base", kept);
      await snapshotter.commit(`${key}-done`, key, kept);
      await snapshotter.remove(`${key}-done`);
    },
  },
];

/** Our snapshotter with overlayfs against containerd's own overlayfs, each on its socket, called by the same client. */
export async function snapshots(): Promise<Report> {
  const comparisons: Comparison[] = [];
  for (const each of cases) {
    const peers = await onContainerd(each);
    const ours = await onOurs(each);
    const callers = `${each.concurrency} caller${each.concurrency === 1 ? "" : "s"}`;
    comparisons.push(
      {
        what: `${each.what}, ${callers}`,
        unit: "/s",
        ours: ours.callsPerSecond,
        peers: peers.callsPerSecond,
        want: each.wantedRate === undefined ? undefined : { atLeast: each.wantedRate },
      },
      {
        what: `CPU for it, ${callers}`,
        unit: "µs",
        ours: ours.cpuMicrosecondsPerCall,
        peers: peers.cpuMicrosecondsPerCall,
        want: each.wantedCpu === undefined ? undefined : { atMost: each.wantedCpu },
      },
    );
  }
  return {
    title: "Snapshots API",
    method:
      "Debian's containerd 1.6 with its overlayfs, and `oci-snapshotter` with overlayfs, each called by our client over a unix socket. Both keep an acknowledged change through a power cut. CPU is the server's, from /proc.",
    peer: "containerd",
    comparisons,
  };
}

async function onOurs(each: Case): Promise<Load> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  const address = join(directory.path, "s.sock");
  await using server = await startProcess({
    program: join(import.meta.dirname, "../../services/snapshotter/bin/oci-snapshotter"),
    args: ["--root", join(directory.path, "root"), "--address", address, "--snapshotter", "overlayfs"],
    ready: /"msg":"serving"/,
  });
  await using snapshotter = openProxy(address, { snapshotter: "overlayfs" });
  return await loadOf(snapshotter, each, server.pid);
}

async function onContainerd(each: Case): Promise<Load> {
  await using containerd = await startContainerd();
  const { address, namespace, pid } = containerd;
  await using snapshotter = openProxy(address, { snapshotter: "overlayfs", namespace });
  return await loadOf(snapshotter, each, pid);
}

async function loadOf(snapshotter: Snapshotter, { call, concurrency }: Case, pid: number): Promise<Load> {
  await snapshotter.prepare("making-base", undefined, kept);
  await snapshotter.commit("base", "making-base", kept);
  let count = 0;
  const next = () => {
    count += 1;
    return call(snapshotter, `key-${count}`);
  };
  await measure(next, { concurrency, durationMs: warmUpMs, pid });
  return await measure(next, { concurrency, durationMs, pid });
}
