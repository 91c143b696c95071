// Serves lazy layers on the FUSE device that it is given as descriptor 3: a process that tests can kill.
import { pino } from "pino";
import { LazyLayers, type LazyLayersOptions } from "./lazy-layers.ts";

/** What it is told, as JSON. */
export interface SampleProgramOptions extends LazyLayersOptions {
  readonly target: string;
  readonly isAdopted: boolean;
}

const { target, isAdopted, ...options } = JSON.parse(process.argv[2] ?? "{}") as SampleProgramOptions;
const layers = await LazyLayers.open(options, pino({ level: "silent" }));
process.stdout.write("serving\n");
await layers.serve({ kind: "blobs", fd: 3, isAdopted, target });
