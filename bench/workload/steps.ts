import { execFile } from "node:child_process";
import { chmod, cp, mkdir, mkdtempDisposable, readFile, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { definitionOf, image, type RunOptions, run, type Tree } from "@oci-worker/llb/build";
import type { Reference } from "@oci-worker/oci/reference";
import { createImage } from "../../e2e/peers/image.ts";
import { pushTo } from "../../e2e/peers/pushed-image.ts";
import { startRegistry } from "../../e2e/peers/registry.ts";
import { startWorker, type WorkerPeer } from "../../e2e/peers/worker.ts";
import type { Comparison, Report } from "../report.ts";

const stepsInSequence = 50;
const stepsInParallel = 8;

/** Ours and the runtime alone take turns, so that a noisy moment of the machine hits both. */
const rounds = 3;

/** What a step may take beyond the runtime alone, and what a cache mount may add to that. */
const limits = { overheadMs: 40, cacheMountMs: 15 } as const;

/** What `oci-worker` adds to the runtime: steps one after another, at the same time, and with a cache mount. */
export async function steps(): Promise<Report> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  await using registry = await startRegistry();
  const reference = await pushTo(registry, await createImage());
  const bundle = join(directory.path, "bundle");
  const recorder = join(directory.path, "recorder");
  await writeFile(recorder, recordingRuntime(bundle));
  await chmod(recorder, 0o755);
  await mkdir(bundle);
  {
    await using worker = await startWorker({ args: ["--oci-worker-binary", recorder] });
    await solve(worker, chain(reference, 1, "record"));
  }
  await fillRootfs(bundle);

  await using worker = await startWorker();
  await solve(worker, chain(reference, 1, "warm"));
  const figures: Figures[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const bare =
      (await secondsOf(() => inSequence(stepsInSequence, () => bareRun(bundle)))) / stepsInSequence;
    const ours = await secondsOf(() => solve(worker, chain(reference, stepsInSequence, `chain ${round}`)));
    const mounts: RunOptions["mounts"] = [{ type: "cache", dest: "/cache", id: "bench" }];
    const cached = await secondsOf(() =>
      solve(worker, chain(reference, stepsInSequence, `cache ${round}`, { mounts })),
    );
    figures.push({
      bareMs: bare * 1000,
      stepMs: (ours / stepsInSequence) * 1000,
      cachedStepMs: (cached / stepsInSequence) * 1000,
      bareParallelMs: (await secondsOf(() => atOnce(() => bareRun(bundle)))) * 1000,
      parallelMs:
        (await secondsOf(() =>
          atOnce((index) => solve(worker, chain(reference, 1, `at once ${round} ${index}`))),
        )) * 1000,
    });
  }
  return {
    title: "Steps",
    method: `\`oci-worker\` with \`true\` as command of each step, over its socket, each step on top of the one before, so that a snapshot is prepared, mounted and committed for each; and \`runc run\` of a bundle that the worker has made, on a plain directory; in turns, the median of ${rounds}. Parallel steps are those of ${stepsInParallel} builds.`,
    peer: "runc run, or limit",
    comparisons: comparisonsOf(figures),
  };
}

interface Figures {
  readonly bareMs: number;
  readonly stepMs: number;
  readonly cachedStepMs: number;
  readonly bareParallelMs: number;
  readonly parallelMs: number;
}

function comparisonsOf(figures: readonly Figures[]): Comparison[] {
  const median = (pick: (each: Figures) => number) =>
    figures.map(pick).sort((a, b) => a - b)[figures.length >> 1] ?? 0;
  return [
    {
      what: `a step, ${stepsInSequence} in sequence`,
      unit: "ms",
      ours: median(({ stepMs }) => stepMs),
      peers: median(({ bareMs }) => bareMs),
      want: undefined,
    },
    {
      what: "of that beyond the runtime alone",
      unit: "ms",
      ours: median(({ stepMs, bareMs }) => stepMs - bareMs),
      peers: limits.overheadMs,
      want: { atMost: 1 },
    },
    {
      what: `${stepsInParallel} steps at the same time`,
      unit: "ms",
      ours: median(({ parallelMs }) => parallelMs),
      peers: median(({ bareParallelMs }) => bareParallelMs),
      want: undefined,
    },
    {
      what: "what a cache mount adds to a step",
      unit: "ms",
      ours: Math.max(
        0,
        median(({ cachedStepMs, stepMs }) => cachedStepMs - stepMs),
      ),
      peers: limits.cacheMountMs,
      want: { atMost: 1 },
    },
  ];
}

/** runc that leaves the bundle that it is given, without its root file system, in `bundle`. */
function recordingRuntime(bundle: string): string {
  return `#!/bin/sh
previous=
for word; do
  [ "$previous" != --bundle ] || cp "$word/config.json" "$word/hosts" "$word/resolv.conf" ${bundle}
  previous=$word
done
exec runc "$@"
`;
}

/** Makes `bundle` one that runs by itself: of the step's image what its command takes. */
async function fillRootfs(bundle: string): Promise<void> {
  const config = join(bundle, "config.json");
  const spec = JSON.parse(await readFile(config, "utf8"));
  spec.root.path = join(bundle, "rootfs");
  // The socket goes with the worker that has recorded it.
  spec.mounts = spec.mounts.filter(
    ({ destination }: { destination: string }) => !destination.endsWith(".sock"),
  );
  for (const mount of spec.mounts) {
    const name = /^\/etc\/(hosts|resolv\.conf)$/.exec(mount.destination)?.[1];
    if (name !== undefined) {
      mount.source = join(bundle, name);
    }
  }
  await writeFile(config, JSON.stringify(spec));
  await mkdir(join(bundle, "rootfs/bin"), { recursive: true });
  await cp("/bin/busybox", join(bundle, "rootfs/bin/busybox"));
  await symlink("busybox", join(bundle, "rootfs/bin/true"));
}

let runs = 0;

async function bareRun(bundle: string): Promise<void> {
  runs += 1;
  await promisify(execFile)("runc", ["run", "--bundle", bundle, `bench-${process.pid}-${runs}`]);
}

/** `count` steps, each in what the one before has left. The name makes them others than any before. */
function chain(reference: Reference, count: number, name: string, more: Partial<RunOptions> = {}): Tree {
  let tree = image(reference);
  for (let index = 0; index < count; index += 1) {
    tree = run({ root: tree, args: ["true"], env: ["PATH=/bin", `NAME=${name} ${index}`], ...more }).root;
  }
  return tree;
}

async function solve({ client }: WorkerPeer, tree: Tree): Promise<void> {
  await client.solve(definitionOf(tree)).result;
}

async function inSequence(count: number, work: () => Promise<void>): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    await work();
  }
}

async function atOnce(work: (index: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: stepsInParallel }, (_, index) => work(index)));
}

async function secondsOf(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
}
