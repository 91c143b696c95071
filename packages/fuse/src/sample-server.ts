// Serves a SampleFileSystem in a worker thread.
import { parentPort, workerData } from "node:worker_threads";
import { type SampleFile, SampleFileSystem } from "./sample-file-system.ts";
import { serveFileSystem } from "./serve.ts";

/** What the thread is told. */
export interface SampleServerData {
  readonly fd: number;
  readonly files: readonly SampleFile[];
  readonly cacheSeconds?: number;
  /** Set to 1: stop at the next request. */
  readonly stopped?: Int32Array;
}

const { fd, files, cacheSeconds, stopped } = workerData as SampleServerData;
const fileSystem = new SampleFileSystem(files, {
  ...(cacheSeconds !== undefined && { cacheSeconds }),
  onLate: (unique, offset, size) => parentPort?.postMessage({ unique, offset, size }),
  onInterrupt: (unique) => parentPort?.postMessage({ interrupted: unique }),
});
serveFileSystem(fd, fileSystem, {
  ...(stopped && { isStopped: () => Atomics.load(stopped, 0) === 1 }),
});
