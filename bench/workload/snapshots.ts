import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startContainerd } from "../../e2e/peers/containerd.ts";
import { startProcess } from "../../e2e/peers/process.ts";
import { buildGoProgram, type GoProgram } from "../go-program.ts";
import { cpuSeconds, type Load } from "../load.ts";
import type { Comparison, Report } from "../report.ts";

/** Ours and the peer's take turns, so that a noisy moment of the machine hits both. */
const rounds = 3;
const warmUpMs = 1000;
const durationMs = 3000;
const manySnapshots = 10_000;

/** One figure, and the calls that it is about. */
interface Case {
  readonly what: string;
  /** As `snapshots-load` names it. */
  readonly operation: string;
  readonly callers: number;
  /** Of the calls; ours as a multiple of the peer's. */
  readonly wantedRate?: number;
  readonly wantedCpu?: number;
}

const cases: readonly Case[] = [
  { what: "Stat", operation: "stat", callers: 1, wantedCpu: 1 },
  { what: "Stat", operation: "stat", callers: 64, wantedRate: 1.2, wantedCpu: 1 },
  { what: "Update of a label", operation: "update", callers: 64, wantedRate: 5 },
  { what: "Prepare + Remove", operation: "prepare-remove", callers: 8, wantedRate: 5 },
  { what: "Prepare + Commit + Remove", operation: "prepare-commit-remove", callers: 8, wantedRate: 5 },
];

/** Last: it fills the stores. */
const listCase: Case = { what: "List of 10,000", operation: "list", callers: 1, wantedRate: 1 };

/** A server under load. */
interface Subject {
  readonly address: string;
  readonly namespace: string;
  readonly pid: number;
}

/**
 * Our snapshotter with overlayfs against containerd's own overlayfs, each on its socket, called by Go's gRPC as
 * containerd and BuildKit would.
 */
export async function snapshots(): Promise<Report> {
  await using caller = await buildGoProgram("snapshots-load");
  await using containerd = await startContainerd();
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  const address = join(directory.path, "s.sock");
  await using server = await startProcess({
    program: join(import.meta.dirname, "../../services/snapshotter/bin/oci-snapshotter"),
    args: ["--root", join(directory.path, "root"), "--address", address, "--snapshotter", "overlayfs"],
    ready: /"msg":"serving"/,
  });
  const ours = { address, namespace: "bench", pid: server.pid };
  const loads = new Loads(caller, ours, containerd);
  await loads.setUp();
  const comparisons: Comparison[] = [];
  for (const each of cases) {
    comparisons.push(...(await loads.compare(each)));
  }
  await loads.fill();
  comparisons.push(...(await loads.compare(listCase)));
  return {
    title: "Snapshots API",
    method:
      "Debian's containerd 1.6 with its overlayfs, and `oci-snapshotter` with overlayfs, each called over a unix socket by a client on Go's gRPC, as containerd and BuildKit are. Both keep an acknowledged change through a power cut. Medians of three rounds, taken in turns. CPU is the server's, from /proc.",
    peer: "containerd",
    comparisons,
  };
}

class Loads {
  readonly #caller: GoProgram;
  readonly #ours: Subject;
  readonly #peers: Subject;
  #runs = 0;

  constructor(caller: GoProgram, ours: Subject, peers: Subject) {
    this.#caller = caller;
    this.#ours = ours;
    this.#peers = peers;
  }

  /** Makes the snapshot that the operations are about. */
  async setUp(): Promise<void> {
    for (const subject of [this.#ours, this.#peers]) {
      await this.#call(subject, "--set-up", "--operation", "stat", "--calls", "1");
    }
  }

  /** Fills both stores for the list. */
  async fill(): Promise<void> {
    for (const subject of [this.#ours, this.#peers]) {
      const args = ["--operation", "prepare", "--callers", "64", "--calls", String(manySnapshots)];
      await this.#call(subject, ...args);
    }
  }

  async compare(each: Case): Promise<Comparison[]> {
    const ours: Load[] = [];
    const peers: Load[] = [];
    for (const subject of [this.#ours, this.#peers]) {
      await this.#load(subject, each, warmUpMs);
    }
    for (let round = 0; round < rounds; round += 1) {
      peers.push(await this.#load(this.#peers, each, durationMs));
      ours.push(await this.#load(this.#ours, each, durationMs));
    }
    const callers = `${each.callers} caller${each.callers === 1 ? "" : "s"}`;
    return [
      {
        what: `${each.what}, ${callers}`,
        unit: "/s",
        ours: median(ours.map(({ callsPerSecond }) => callsPerSecond)),
        peers: median(peers.map(({ callsPerSecond }) => callsPerSecond)),
        want: each.wantedRate === undefined ? undefined : { atLeast: each.wantedRate },
      },
      {
        what: `CPU for it, ${callers}`,
        unit: "µs",
        ours: median(ours.map(({ cpuMicrosecondsPerCall }) => cpuMicrosecondsPerCall)),
        peers: median(peers.map(({ cpuMicrosecondsPerCall }) => cpuMicrosecondsPerCall)),
        want: each.wantedCpu === undefined ? undefined : { atMost: each.wantedCpu },
      },
    ];
  }

  async #load(subject: Subject, { operation, callers }: Case, ms: number): Promise<Load> {
    const cpuBefore = await cpuSeconds(subject.pid);
    const args = ["--operation", operation, "--callers", String(callers), "--duration", `${ms}ms`];
    const { calls, seconds, medianMicroseconds } = await this.#call(subject, ...args);
    const cpu = (await cpuSeconds(subject.pid)) - cpuBefore;
    return {
      callsPerSecond: calls / seconds,
      cpuMicrosecondsPerCall: (cpu / calls) * 1e6,
      medianMicroseconds,
    };
  }

  async #call({ address, namespace }: Subject, ...args: string[]): Promise<Called> {
    this.#runs += 1;
    const about = ["--address", address, "--namespace", namespace, "--prefix", `run-${this.#runs}`];
    return JSON.parse(await this.#caller.run(...about, ...args)) as Called;
  }
}

/** What `snapshots-load` prints. */
interface Called {
  readonly calls: number;
  readonly seconds: number;
  readonly medianMicroseconds: number;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
