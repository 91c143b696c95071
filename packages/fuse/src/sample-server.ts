// Serves a SampleFileSystem in a worker thread.
import { closeSync, openSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { closeBacking, openBacking } from "./passthrough.ts";
import { type SampleFile, SampleFileSystem } from "./sample-file-system.ts";
import { serveFileSystem } from "./serve.ts";

/** What the thread is told. */
export interface SampleServerData {
  readonly fd: number;
  readonly files: readonly SampleFile[];
  readonly cacheSeconds?: number;
  /** Set to 1: stop at the next request. */
  readonly stopped?: Int32Array;
  /** A file that the kernel reads in the place of every file with `backing`. */
  readonly backingPath?: string;
}

const { fd, files, cacheSeconds, stopped, backingPath } = workerData as SampleServerData;
let backing = 0;
const fileSystem = new SampleFileSystem(files, {
  ...(cacheSeconds !== undefined && { cacheSeconds }),
  onLate: (unique, offset, size) => parentPort?.postMessage({ unique, offset, size }),
  onInterrupt: (unique) => parentPort?.postMessage({ interrupted: unique }),
  ...(backingPath !== undefined && {
    onOpenBacked: () => {
      const file = openSync(backingPath, "r");
      backing = openBacking(fd, file);
      closeSync(file);
      return backing;
    },
  }),
  onReleaseBacked: () => closeBacking(fd, backing),
});
serveFileSystem(fd, fileSystem, {
  passthrough: backingPath !== undefined,
  ...(stopped && { isStopped: () => Atomics.load(stopped, 0) === 1 }),
});
