import { mkdir, mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { definitionOf, image, run } from "@oci-worker/llb/build";
import { digestOf } from "@oci-worker/oci/digest";
import { openProxy } from "@oci-worker/snapshots/proxy";
import { createImage } from "../../e2e/peers/image.ts";
import { startProcess } from "../../e2e/peers/process.ts";
import { pushTo } from "../../e2e/peers/pushed-image.ts";
import { startRegistry } from "../../e2e/peers/registry.ts";
import { residentMemory } from "../../e2e/peers/resident-memory.ts";
import { startWorker, type WorkerPlace, workerPlace, workerProgram } from "../../e2e/peers/worker.ts";
import { cpuSeconds } from "../load.ts";
import type { Comparison, Report } from "../report.ts";

const recordCount = 10_000;
const starts = 5;

/** Snapshots made at a time. */
const concurrency = 16;

const steps = 500;
/** Memory is compared with what it was after so many: by then everything is compiled and the heap has its size. */
const warmUpSteps = 200;

/** Records are all that is to be measured. */
const noGc = "[worker.oci]\ngc = false\n";

/** What the worker's cache costs: a start with many records, and memory after many steps. */
export async function cache(): Promise<Report> {
  return {
    title: "The worker's cache",
    method: `Starts of the worker with a snapshotter of its own, from source, with ${recordCount} records in its cache and with none: medians of ${starts}, from the start of the launcher until it serves, and the CPU time of the worker until then. Then the memory of the worker after ${steps} steps, each a build of its own in one image and none from the cache, and after the first ${warmUpSteps} of them. Wanted: at most 500 ms more, and no more memory.`,
    peer: "without records; after the first steps",
    comparisons: [...(await startWithRecords()), await memoryAfterSteps()],
  };
}

interface Start {
  readonly ms: number;
  /** In steps of 10 ms. */
  readonly cpuMs: number;
}

async function startWithRecords(): Promise<Comparison[]> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-cache-"));
  const [empty, full] = [
    workerPlace(join(directory.path, "empty")),
    workerPlace(join(directory.path, "full")),
  ];
  await mkdir(empty.directory);
  await mkdir(full.directory);
  await fill(full);
  const [ours, peers]: [Start[], Start[]] = [[], []];
  for (let round = 0; round < starts; round += 1) {
    ours.push(await startOnce(full));
    peers.push(await startOnce(empty));
  }
  const compared = (what: string, measure: (start: Start) => number): Comparison => ({
    what,
    unit: "ms",
    ours: median(ours.map(measure)),
    peers: median(peers.map(measure)),
    want: undefined,
  });
  return [
    compared(`start with ${recordCount} records`, ({ ms }) => ms),
    compared("CPU until then", ({ cpuMs }) => cpuMs),
  ];
}

/** Makes snapshots that are named as layers of images are, and has a worker make records of them. */
async function fill(place: WorkerPlace): Promise<void> {
  {
    await using _worker = await startProcess(await workerProgram(place, { config: noGc }));
    await using snapshotter = openProxy(join(place.root, "snapshotter.sock"), {
      snapshotter: "auto",
      namespace: "buildkit",
    });
    const numbers = Array.from({ length: recordCount }, (_, index) => index).values();
    const makeNext = async () => {
      for (const number of numbers) {
        const key = `extract-${number}`;
        await snapshotter.prepare(key, undefined, {});
        await snapshotter.commit(digestOf(key), key, {});
      }
    };
    await Promise.all(Array.from({ length: concurrency }, makeNext));
  }
  await startOnce(place);
}

async function startOnce(place: WorkerPlace): Promise<Start> {
  const program = await workerProgram(place, { config: noGc });
  const startedAt = performance.now();
  await using worker = await startProcess(program);
  const ms = performance.now() - startedAt;
  return { ms, cpuMs: (await cpuSeconds(worker.pid)) * 1000 };
}

async function memoryAfterSteps(): Promise<Comparison> {
  await using registry = await startRegistry();
  const base = image(await pushTo(registry, await createImage()));
  await using worker = await startWorker();
  let warm = 0;
  for (let step = 1; step <= steps; step += 1) {
    const { root } = run({ root: base, args: ["sh", "-c", `echo ${step}`], env: ["PATH=/bin"] });
    await worker.client.solve(definitionOf(root)).result;
    if (step === warmUpSteps) {
      warm = (await residentMemory(worker.process.pid)).now;
    }
  }
  const { now } = await residentMemory(worker.process.pid);
  return {
    what: `resident after ${steps} steps`,
    unit: "MB",
    ours: now / 1e6,
    peers: warm / 1e6,
    want: undefined,
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
