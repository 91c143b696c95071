// Opens a layer mounter, serves layers and mounts them: a process that tests can kill. Tells what it does on its output.
import { once } from "node:events";
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";
import { pino } from "pino";
import type { LayerMounter, LayerToMount } from "./layer-mounter.ts";
import { type LayerMounterOptions, openLayerMounter } from "./open-layer-mounter.ts";
import type { SampleThreadData } from "./sample-thread.ts";

export interface SampleProgramOptions extends LayerMounterOptions {
  readonly layers: readonly LayerToMount[];
  /** Reads are told of and not answered. */
  readonly isMute: boolean;
}

/** What it can be told, a line each. */
export type SampleCommand =
  | { readonly mount: LayerToMount; readonly at: string }
  | { readonly useFile: LayerToMount; readonly at: string }
  | { readonly unmount: true; readonly at: string }
  | { readonly stop: true };

const { layers, isMute, ...options }: SampleProgramOptions = JSON.parse(process.argv[2] ?? "");
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function obey(mounter: LayerMounter, command: Exclude<SampleCommand, { stop: true }>): Promise<void> {
  const { at } = command;
  try {
    if ("mount" in command) {
      await mounter.mountLayer(command.mount, at);
    } else {
      await ("useFile" in command ? mounter.useFile?.(command.useFile, at) : mounter.unmountLayer(at));
    }
    say({ at });
  } catch (error) {
    say({ at, failed: error instanceof Error ? error.message : String(error) });
  }
}

try {
  const mounter = await openLayerMounter(options, pino({ level: "silent" }));
  mounter.serveWith(async (device) => {
    const workerData: SampleThreadData = { device, layers, isMute };
    const thread = new Worker(new URL("./sample-thread.ts", import.meta.url), { workerData });
    thread.on("message", (sizeBytes: number) => say({ read: sizeBytes }));
    await once(thread, "exit");
  });
  const { mode, passedOver, adopted } = mounter;
  say({ mode, passedOver, adopted });
  for await (const line of createInterface(process.stdin)) {
    const command: SampleCommand = JSON.parse(line);
    if ("stop" in command) {
      await mounter[Symbol.asyncDispose]();
      break;
    }
    void obey(mounter, command);
  }
} catch (error) {
  say({ failed: error instanceof Error ? error.message : String(error) });
}
// An exit would wait for the threads, which wait for the kernel.
process.kill(process.pid, "SIGKILL");
