import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Health } from "@oci-worker/api/grpc/health";
import { unixChannel } from "@oci-worker/grpc/channel";
import { bundle } from "../../deploy/bundle.ts";
import { startProcess } from "../../e2e/peers/process.ts";
import { residentMemory } from "../../e2e/peers/resident-memory.ts";
import { cpuSeconds } from "../load.ts";
import type { Comparison, Report } from "../report.ts";

const rounds = 9;

/** After so long without a call a service counts as idle. */
const idleMs = 3000;

/** A service, and the flags that it needs in a directory. */
interface Service {
  readonly program: string;
  readonly service: string;
  readonly args: (directory: string) => string[];
}

const services: readonly Service[] = [
  {
    program: "oci-snapshotter",
    service: "snapshotter",
    args: (directory) => ["--root", join(directory, "root"), "--address", join(directory, "s.sock")],
  },
  {
    program: "oci-resolver",
    service: "resolver",
    args: (directory) => ["--address", join(directory, "s.sock")],
  },
];

interface Start {
  readonly ms: number;
  /** CPU time that the service has used by then; in steps of 10 ms. */
  readonly cpuMs: number;
  /** Undefined where nobody waited until it was idle. */
  readonly idleBytes: number | undefined;
}

/** Services as they are deployed, bundled, against the same from source: how soon they answer, and what they take then. */
export async function start(): Promise<Report> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-bundle-"));
  await bundle(directory.path);
  const comparisons: Comparison[] = [];
  for (const each of services) {
    const bundled = join(directory.path, "bin", each.program);
    const source = join(import.meta.dirname, "../../services", each.service, "bin", each.program);
    const [ours, peers]: [Start[], Start[]] = [[], []];
    for (let round = 0; round < rounds; round += 1) {
      ours.push(await startOnce(bundled, each, round === 0));
      peers.push(await startOnce(source, each, round === 0));
    }
    comparisons.push(
      {
        what: `${each.program}, start to first answer`,
        unit: "ms",
        ours: median(ours.map(({ ms }) => ms)),
        peers: median(peers.map(({ ms }) => ms)),
        want: undefined,
      },
      {
        what: `${each.program}, CPU until then`,
        unit: "ms",
        ours: median(ours.map(({ cpuMs }) => cpuMs)),
        peers: median(peers.map(({ cpuMs }) => cpuMs)),
        want: undefined,
      },
      {
        what: `${each.program}, resident when idle`,
        unit: "MB",
        ours: (ours[0]?.idleBytes ?? 0) / 1e6,
        peers: (peers[0]?.idleBytes ?? 0) / 1e6,
        want: undefined,
      },
    );
  }
  return {
    title: "Start",
    method: `From the start of the launcher to the answer of the first call, a health check, with an empty root: medians of ${rounds} starts, taken in turns. Wanted of what is bundled: 120 ms, 70 MB.`,
    peer: "from source",
    comparisons,
  };
}

async function startOnce(program: string, { args }: Service, untilIdle: boolean): Promise<Start> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-start-"));
  const startedAt = performance.now();
  await using running = await startProcess({ program, args: args(directory.path), ready: /"msg":"serving"/ });
  using channel = unixChannel(join(directory.path, "s.sock"));
  await createClient(Health, channel).check({});
  const ms = performance.now() - startedAt;
  const cpuMs = (await cpuSeconds(running.pid)) * 1000;
  if (!untilIdle) {
    return { ms, cpuMs, idleBytes: undefined };
  }
  await delay(idleMs);
  return { ms, cpuMs, idleBytes: (await residentMemory(running.pid)).now };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
