import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "../../deploy/bundle.ts";
import { buildGoProgram } from "../go-program.ts";
import { putAway } from "../lazy/distance.ts";
import { lazyLayers, smallLayers } from "../lazy/image.ts";
import { manyLayers, mountManyLayers } from "../lazy/many-layers.ts";
import { TreeReader } from "../lazy/reader.ts";
import { Series, type Who } from "../lazy/series.ts";
import { registryWith, startUp } from "../lazy/start-up.ts";
import { type StartSubject, startOurs, startStargz } from "../lazy/subject.ts";
import { chooseReading, readTrees } from "../lazy/trees.ts";
import { unpackedLayers } from "../lazy/unpacked.ts";
import type { Comparison, Report } from "../report.ts";

const rounds = 3;

/** As to a registry in the same country. */
const roundTripMs = 20;

/** Of the image that a server has pulled before. */
const layersOfOther = 20;

/** A row of the table, by the name of its figure. */
interface Row {
  readonly figure: string;
  readonly what: string;
  readonly unit: string;
  readonly want?: Comparison["want"];
  /** Default: stargz-snapshotter. */
  readonly peer?: Who;
}

const rows: readonly Row[] = [
  { figure: "start", what: "pull, create, first command done", unit: "s", want: { atMost: 0.7 } },
  { figure: "start cold", what: "the same, first of all after the server's start", unit: "s" },
  { figure: "start far", what: `the same, ${roundTripMs} ms from the registry and back`, unit: "s" },
  { figure: "CPU of start", what: "CPU of the server for it", unit: "ms" },
  { figure: "mount", what: "two layers mounted, by the API alone", unit: "ms" },
  { figure: "requests", what: "requests for a layer before its container runs", unit: "" },
  { figure: "find cold", what: "`find -size` of the whole tree, cold", unit: "ms", want: { atMost: 0.3 } },
  { figure: "find warm", what: "the same, warm", unit: "ms" },
  { figure: "lstat cold", what: "lstat at random, cold", unit: "µs", want: { atMost: 0.3 } },
  { figure: "lstat cold p99", what: "the same, 99th percentile", unit: "µs" },
  { figure: "read first", what: "small file, fetched from the registry", unit: "µs" },
  { figure: "read cold", what: "small file, open + read + close, cold", unit: "µs", want: { atMost: 0.6 } },
  { figure: "read warm", what: "the same, warm", unit: "µs" },
  {
    figure: "read warm",
    what: "the same, warm, against overlayfs unpacked",
    unit: "µs",
    want: { atMost: 1.1 },
    peer: "unpacked",
  },
  { figure: "big first", what: "256 MiB in order, fetched from the registry", unit: "MiB/s" },
  { figure: "big cold", what: "256 MiB in order, cold", unit: "MiB/s", want: { atLeast: 1.3 } },
  { figure: "random cold", what: "4 KiB at random, cold", unit: "µs", want: { atMost: 1 } },
  { figure: "fetched for read", what: "bytes fetched for a byte of small files", unit: "" },
  { figure: "fetched for big", what: "bytes fetched for a byte of the large file", unit: "" },
  { figure: "CPU of lstat", what: "CPU of the server for an lstat, cold", unit: "µs" },
  { figure: "CPU of read first", what: "CPU for a small file, fetched from the registry", unit: "µs" },
  { figure: "CPU of read cold", what: "CPU for a small file, cold", unit: "µs" },
  { figure: "CPU of random cold", what: "CPU for 4 KiB at random, cold: one FUSE request", unit: "µs" },
  { figure: "mount many", what: `${manyLayers} layers mounted`, unit: "ms" },
  { figure: "resident", what: "memory of the server then", unit: "MiB" },
];

const remarks = [
  "*Pull, create, first command*: half of it is what the clients take themselves. Of ours the table of contents of the Debian layer, 24,000 entries, of which it makes an image for the kernel, takes some 370 ms of CPU time the first time in a process, and some 110 ms once V8 has compiled what reads it. The reads of the command then take less: 38 requests to the registry instead of 70. So it gains with the distance of the registry.",
  "*256 MiB in order, cold*: Linux asks for a megabyte at a time, and what it is given is not kept a second time as pages of the layer's file. One thread answers all devices; a second one would double the CPU time of small requests.",
  "*Warm*, `find` and lstat are the kernel's alone, with its EROFS: no process of ours takes part, so what differs from an unpacked overlayfs there is EROFS, and what else the machine does.",
  "*Memory*: Node with four threads takes 95 MiB before there is any layer. A layer of 200 files takes about 1 MiB, most of it room that is not given back yet.",
];

/** Layers that are read while they are fetched: ours against stargz-snapshotter, and against overlayfs on files unpacked. */
export async function lazy(): Promise<Report> {
  await using directory = await mkdtempDisposable(join(tmpdir(), "bench-"));
  const programs = join(directory.path, "programs");
  await bundle(programs);
  await using stargz = await buildGoProgram("stargz");
  await using reader = await TreeReader.build(directory.path);
  await using source = await registryWith(await lazyLayers());
  const starts = new Map<Who, StartSubject>([
    ["stargz", startStargz(stargz)],
    ["ours", startOurs(programs)],
  ]);
  await using other = await registryWith(await smallLayers(layersOfOther));
  await using distance = await putAway(source.registry.host, roundTripMs);
  const far = source.image.replace(source.registry.host, distance.host);
  const series = new Series();
  for (let round = 0; round < rounds; round += 1) {
    for (const [who, start] of starts) {
      const { seconds, serverCpuSeconds } = await startUp(start, source.image, other.image);
      series.add(who, "start", seconds);
      series.add(who, "CPU of start", serverCpuSeconds * 1000);
      series.add(who, "start cold", (await startUp(start, source.image)).seconds);
      series.add(who, "start far", (await startUp(start, far, other.image)).seconds);
    }
  }
  {
    await using unpacked = await unpackedLayers(source.layers);
    const reading = await chooseReading(source);
    for (let round = 0; round < rounds; round += 1) {
      await readTrees({ starts, source, reading, reader, unpacked: unpacked.path }, series);
    }
  }
  await mountManyLayers(starts, series);
  return {
    title: "Lazy layers",
    method: `An image of a Debian root file system and a layer with one large file, both eStargz, in Debian's docker-registry on the same machine. The peer is stargz-snapshotter's library 0.12 as Debian has it, behind a socket, with its daemon's defaults; ours is \`oci-snapshotter --snapshotter stargz\`, bundled as it is deployed, with \`oci-resolver\`. The first rows are a containerd with nothing of the image, \`ctr-remote images rpull\` and \`ctr run\` of a Python that imports some modules. After that neither fetches ahead, and what is read is read through the overlay of a container: *cold* is what has been fetched, with the kernel's caches dropped. CPU is the server's, from /proc. Medians of ${rounds} rounds, taken in turns.`,
    peer: "stargz-snapshotter",
    remarks,
    comparisons: rows.map(({ figure, what, unit, want, peer = "stargz" }) => ({
      what,
      unit,
      ours: series.median("ours", figure),
      peers: series.median(peer, figure),
      want,
    })),
  };
}
