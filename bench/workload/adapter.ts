import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { Snapshots } from "@oci-worker/api/containerd/snapshots";
import { unixChannel } from "@oci-worker/grpc/channel";
import { startProcess } from "../../e2e/peers/process.ts";
import { type Load, measure } from "../load.ts";
import type { Comparison, Report } from "../report.ts";

const warmUpMs = 1500;
const durationMs = 4000;

/** Our gRPC adapter against connect-node's, answering the same call with the same handler. */
export async function adapter(): Promise<Report> {
  const comparisons: Comparison[] = [];
  for (const concurrency of [1, 8, 64]) {
    const peers = await loadOf("connect-node", concurrency);
    const ours = await loadOf("adapter", concurrency);
    const callers = `${concurrency} caller${concurrency === 1 ? "" : "s"}`;
    comparisons.push(
      {
        what: `Stat, ${callers}`,
        unit: "calls/s",
        ours: ours.callsPerSecond,
        peers: peers.callsPerSecond,
        want: undefined,
      },
      {
        what: `CPU a call, ${callers}`,
        unit: "µs",
        ours: ours.cpuMicrosecondsPerCall,
        peers: peers.cpuMicrosecondsPerCall,
        want: undefined,
      },
    );
  }
  return {
    title: "gRPC adapter",
    method:
      "A server process of its own answers Snapshots/Stat from memory; our client calls it over a unix socket. CPU is the server's, from /proc.",
    peer: "connect-node",
    comparisons,
  };
}

async function loadOf(server: "adapter" | "connect-node", concurrency: number): Promise<Load> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  const path = join(directory.path, "s.sock");
  const program = join(import.meta.dirname, "../servers", `${server}.ts`);
  await using running = await startProcess({
    program: process.execPath,
    args: [program, path],
    ready: /^serving$/,
  });
  using channel = unixChannel(path);
  const client = createClient(Snapshots, channel);
  const call = (caller: number) => client.stat({ snapshotter: "bench", key: `key-${caller}` });
  const { pid } = running;
  await measure(call, { concurrency, durationMs: warmUpMs, pid });
  return await measure(call, { concurrency, durationMs, pid });
}
