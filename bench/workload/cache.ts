import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
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

/**
 * Memory goes up and down with the collections of the heap, the full ones some 500 steps apart. So what is compared is the
 * most of so many steps, and of as many after them.
 */
const steps = 1000;

/** Records are all that is to be measured. */
const noGc = "[worker.oci]\ngc = false\n";

/** What the worker's cache costs: a start with many records, and memory after many steps. */
export async function cache(): Promise<Report> {
  return {
    title: "The worker's cache",
    method: `Starts of the worker with a snapshotter of its own, from source, with ${recordCount} records in its cache and with none: medians of ${starts}, from the start of the launcher until it serves, and the CPU time of the worker until then. Then the most memory that the worker has had resident in the second ${steps} of ${2 * steps} steps, each a build of its own in one image and none from the cache, and in the first. Wanted: at most 500 ms more, and no more memory.`,
    peer: "without records; of the first steps",
    remarks: [
      "*Memory*: what is in use does not grow. The rest goes up by 30 MB in some 500 steps, as builds are remembered for ten seconds and are old by then, until V8 collects all of the heap. The launcher has V8 and the allocator keep less of what is free: without that it was 159 to 241 MB between step 200 and step 1500 where it was 143 to 180 MB with it, side by side on one machine, for 36.3 and 35.4 s of CPU time.",
    ],
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
  let count = 0;
  const peakOfSteps = async () => {
    await forgetPeak(worker.process.pid);
    for (let step = 0; step < steps; step += 1) {
      count += 1;
      const { root } = run({ root: base, args: ["sh", "-c", `echo ${count}`], env: ["PATH=/bin"] });
      await worker.client.solve(definitionOf(root)).result;
    }
    return (await residentMemory(worker.process.pid)).peak;
  };
  const first = await peakOfSteps();
  return {
    what: `most resident in ${steps} steps`,
    unit: "MB",
    ours: (await peakOfSteps()) / 1e6,
    peers: first / 1e6,
    want: { atMost: 1.1 },
  };
}

/** Has the peak of resident memory be counted anew (proc(5), clear_refs). */
async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, "5");
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
