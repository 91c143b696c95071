import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountTemporarily } from "@oci-worker/mounts/mount";
import { openProxy } from "@oci-worker/snapshots/proxy";
import type { Snapshotter } from "@oci-worker/snapshots/snapshotter";
import { startContainerd } from "../../e2e/peers/containerd.ts";
import { startProcess } from "../../e2e/peers/process.ts";
import { cpuSeconds } from "../load.ts";
import type { Report } from "../report.ts";

/** Ours and the peer's take turns, so that a noisy moment of the machine hits both. */
const rounds = 5;
const directories = 200;
const filesPerDirectory = 100;

/** As the files of a Debian image: half of them below 2 KiB, few large. */
const sizes = [300, 900, 1500, 2000, 4000, 9000, 20_000, 600, 1200, 60_000];

/** containerd's garbage collector removes what has not this label. */
const kept = { "containerd.io/gc.root": "bench" };

/** A prepare with native on a parent of 20,000 files: a copy of all of them. */
export async function native(): Promise<Report> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  const address = join(directory.path, "s.sock");
  await using server = await startProcess({
    program: join(import.meta.dirname, "../../services/snapshotter/bin/oci-snapshotter"),
    args: ["--root", join(directory.path, "root"), "--address", address, "--snapshotter", "native"],
    ready: /"msg":"serving"/,
  });
  await using containerd = await startContainerd();
  await using ours = openProxy(address, { snapshotter: "native" });
  await using peers = openProxy(containerd.address, {
    snapshotter: "native",
    namespace: containerd.namespace,
  });
  for (const snapshotter of [ours, peers]) {
    await commitTree(snapshotter, directory.path);
  }
  const results: { readonly ours: Took; readonly peers: Took }[] = [];
  for (let round = 0; round < rounds; round += 1) {
    results.push({
      peers: await prepareOnce(peers, containerd.pid),
      ours: await prepareOnce(ours, server.pid),
    });
  }
  const median = (pick: (result: (typeof results)[number]) => number) =>
    results.map(pick).sort((a, b) => a - b)[rounds >> 1] ?? 0;
  return {
    title: "native",
    method: `A prepare on a parent of ${directories * filesPerDirectory} files with native of \`oci-snapshotter\` and of Debian's containerd 1.6, over their sockets, in turns; the median of ${rounds}. CPU is the server's, from /proc. containerd's of today waits for the disk after each file, Debian's does not; ours waits with \`syncOnCommit\` only, once for all.`,
    peer: "containerd",
    comparisons: [
      {
        what: "Prepare",
        unit: "s",
        ours: median((each) => each.ours.seconds),
        peers: median((each) => each.peers.seconds),
        want: { atMost: 0.7 },
      },
      {
        what: "CPU for it",
        unit: "s",
        ours: median((each) => each.ours.cpuSeconds),
        peers: median((each) => each.peers.cpuSeconds),
        want: undefined,
      },
    ],
  };
}

interface Took {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

async function prepareOnce(snapshotter: Snapshotter, pid: number): Promise<Took> {
  const cpuBefore = await cpuSeconds(pid);
  const startedAt = performance.now();
  await snapshotter.prepare("copy", "base", kept);
  const took = {
    seconds: (performance.now() - startedAt) / 1000,
    cpuSeconds: (await cpuSeconds(pid)) - cpuBefore,
  };
  await snapshotter.remove("copy");
  // What was removed is not deleted during the other's turn.
  await snapshotter.cleanup().catch(() => undefined);
  return took;
}

async function commitTree(snapshotter: Snapshotter, scratch: string): Promise<void> {
  const mounts = await snapshotter.prepare("filling", undefined, kept);
  {
    await using mounted = await mountTemporarily(mounts, scratch);
    for (let index = 0; index < directories; index += 1) {
      const path = join(mounted.path, `directory-${index}`);
      await mkdir(path);
      for (let file = 0; file < filesPerDirectory; file += 1) {
        await writeFile(join(path, `file-${file}`), Buffer.alloc(sizes[file % sizes.length] ?? 0, file));
      }
    }
  }
  await snapshotter.commit("base", "filling", kept);
}
